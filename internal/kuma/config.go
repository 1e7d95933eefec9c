// SPDX-License-Identifier: Apache-2.0

//go:build linux

package kuma

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/weir-mesh/weir/internal/mesh/options"
	"github.com/weir-mesh/weir/internal/meshinit"
	"github.com/weir-mesh/weir/internal/problems"
	"github.com/weir-mesh/weir/internal/term"
	"github.com/weir-mesh/weir/modes"
)

const (
	defaultUser = "kuma-dp"
	lastUID     = 1<<32 - 2
)

// names are the flags of install transparent-proxy for the keys of a configuration.
func names() meshinit.Names {
	return meshinit.Names{
		{Key: "proxy.uids"}:                      "--kuma-dp-user",
		{Key: "inbound.port"}:                    "--redirect-inbound-port",
		{Key: "inbound.excludePorts"}:            "--exclude-inbound-ports",
		{Key: "inbound.excludeSources"}:          "--exclude-inbound-ips",
		{Key: "inbound.includePorts"}:            variablePrefix + "REDIRECT_INBOUND_INCLUDE_PORTS",
		{Key: "outbound.port"}:                   "--redirect-outbound-port",
		{Key: "outbound.excludePorts"}:           "--exclude-outbound-ports",
		{Key: "outbound.excludeCIDRs"}:           "--exclude-outbound-ips",
		{Key: "outbound.includePorts"}:           variablePrefix + "REDIRECT_OUTBOUND_INCLUDE_PORTS",
		{Key: "outbound.exclude.uids"}:           "--exclude-outbound-ports-for-uids",
		{Key: "outbound.exclude.ports"}:          "--exclude-outbound-ports-for-uids",
		{Key: "outbound.exclude.protocol"}:       "--exclude-outbound-ports-for-uids",
		{Key: "dns.port"}:                        "--redirect-dns-port",
		{Key: "dns.servers"}:                     "resolv.conf",
		{Key: "dns.capture"}:                     "--redirect-dns",
		{Key: "dns.capture", Value: "all"}:       "--redirect-all-dns-traffic",
		{Key: "interfaces.reroute"}:              "--vnet",
		{Key: "interfaces.reroute.excludeCIDRs"}: "--vnet",
		{Key: "inbound.via", Value: "none"}:      "--redirect-inbound=false",
	}
}

// config is the configuration that means the same, but for IPv6, which the namespace decides.
func (a *arguments) config(env modes.Environment) (modes.Config, error) {
	refused := a.refused()
	uid, err := a.uid(env)
	o := options.Kuma{
		UID:            strconv.FormatUint(uint64(uid), 10),
		Inbound:        a.inbound.options(),
		Outbound:       a.outbound.options(),
		UserExclusions: a.outbound.uids,
		InboundUsers:   a.inbound.uids,
		DNS:            options.KumaDNS{Enabled: a.dns || a.allDNS, All: a.allDNS, Port: modes.PortWord(a.dnsPort), NoZones: a.noZones},
		TCPQueries:     a.insertOutbound,
		Networks:       a.vnet,
		Family:         a.family,
		ResolvConf:     a.resolvConf,
	}
	if a.dropInvalid {
		o.DropInvalid = "enabled"
	}
	c, wrong := o.Over(options.KumaRules())
	for _, p := range wrong {
		refused = errors.Join(refused, fmt.Errorf("%s: %s", optionNames()[p.Option], p.Text))
	}
	return c, problems.Join(refused, err, names().Problem(modes.Check(c)))
}

func (d direction) options() options.KumaFlow {
	return options.KumaFlow{
		Off: !d.enabled, Port: modes.PortWord(d.port),
		Include: options.PortWords(split(d.include)), Exclude: options.PortWords(split(d.exclude)), ExcludeIPs: split(strings.Join(d.ips, ",")),
	}
}

// split splits a list at its commas; nil where there is no word.
func split(list string) []string {
	if words := options.Split(list); len(words) > 0 {
		return words
	}
	return nil
}

func optionNames() map[options.Option]string {
	return map[options.Option]string{
		options.UserExclusions: "--exclude-outbound-ports-for-uids",
		options.InboundUsers:   variablePrefix + "REDIRECT_INBOUND_EXCLUDE_PORTS_FOR_UIDS",
		options.Networks:       "--vnet",
		options.Family:         "--ip-family-mode",
		options.ResolvConf:     variablePrefix + "REDIRECT_DNS_RESOLV_CONFIG_PATH",
	}
}

// uid is the proxy's user. The reference wants passwd to list it.
func (a *arguments) uid(env modes.Environment) (uint32, error) {
	if a.user == "" {
		if id, known := env.Users[defaultUser]; known && !hasUser(env, options.KumaUID) {
			return id, nil
		}
		return options.KumaUID, nil
	}
	if n, err := strconv.ParseUint(a.user, 10, 32); err == nil && n <= lastUID {
		return uint32(n), nil
	}
	if id, known := env.Users[a.user]; known {
		return id, nil
	}
	return options.KumaUID, fmt.Errorf("--kuma-dp-user: %q is neither a number nor a user known here", term.Shorten(a.user))
}

func hasUser(env modes.Environment, uid uint32) bool {
	for _, id := range env.Users {
		if id == uid {
			return true
		}
	}
	return false
}
