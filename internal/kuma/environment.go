// SPDX-License-Identifier: Apache-2.0

//go:build linux

package kuma

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/spf13/pflag"
	"github.com/weir-mesh/weir/internal/mesh/options"
	"github.com/weir-mesh/weir/internal/meshinit"
	"github.com/weir-mesh/weir/internal/term"
)

const variablePrefix = "KUMA_TRANSPARENT_PROXY_"

// variables are those of flags, without the prefix.
var variables = []struct{ name, flag string }{
	{"KUMA_DP_USER", "kuma-dp-user"},
	{"IP_FAMILY_MODE", "ip-family-mode"},
	{"DROP_INVALID_PACKETS", "drop-invalid-packets"},
	{"DRY_RUN", "dry-run"},
	{"STORE_FIREWALLD", "store-firewalld"},
	{"LOG_ENABLED", "iptables-logs"},
	{"REDIRECT_INBOUND_ENABLED", "redirect-inbound"},
	{"REDIRECT_INBOUND_PORT", "redirect-inbound-port"},
	{"REDIRECT_INBOUND_EXCLUDE_PORTS", "exclude-inbound-ports"},
	{"REDIRECT_OUTBOUND_PORT", "redirect-outbound-port"},
	{"REDIRECT_OUTBOUND_EXCLUDE_PORTS", "exclude-outbound-ports"},
	{"REDIRECT_OUTBOUND_INSERT_REDIRECT_INSTEAD_OF_APPEND", "redirect-outbound-insert-instead-of-append"},
	{"REDIRECT_DNS_ENABLED", "redirect-dns"},
	{"REDIRECT_DNS_PORT", "redirect-dns-port"},
	{"REDIRECT_DNS_SKIP_CONNTRACK_ZONE_SPLIT", "skip-dns-conntrack-zone-split"},
}

// readEnvironment reads the variables of the reference.
func (a *arguments) readEnvironment(f *pflag.FlagSet, lookup meshinit.LookupVariable) error {
	var errs []error
	value := func(name string, read func(string) error) {
		if text, set := lookup(variablePrefix + name); set && text != "" {
			if err := read(text); err != nil {
				errs = append(errs, fmt.Errorf("%s%s: %q: %w", variablePrefix, name, term.Shorten(text), err))
			}
		}
	}
	for _, v := range variables {
		value(v.name, f.Lookup(v.flag).Value.Set)
	}
	yes := func(into *bool) func(string) error {
		return func(text string) (err error) {
			if *into, err = strconv.ParseBool(text); err != nil {
				return errors.New("is not a bool")
			}
			return nil
		}
	}
	text := func(into *string) func(string) error { return func(text string) error { *into = text; return nil } }
	value("REDIRECT_OUTBOUND_ENABLED", yes(&a.outbound.enabled))
	value("REDIRECT_INBOUND_INCLUDE_PORTS", text(&a.inbound.include))
	value("REDIRECT_OUTBOUND_INCLUDE_PORTS", text(&a.outbound.include))
	value("REDIRECT_DNS_CAPTURE_ALL", yes(&a.allDNS))
	value("REDIRECT_DNS_RESOLV_CONFIG_PATH", text(&a.resolvConf))
	return errors.Join(errs...)
}

// readLists reads the variables that are lists, which count where their flag was not given.
func (a *arguments) readLists(f *pflag.FlagSet, lookup meshinit.LookupVariable) {
	for _, v := range []struct {
		name, flag string
		into       *[]string
	}{
		{"REDIRECT_INBOUND_EXCLUDE_PORTS_FOR_IPS", "exclude-inbound-ips", &a.inbound.ips},
		{"REDIRECT_INBOUND_EXCLUDE_PORTS_FOR_UIDS", "", &a.inbound.uids},
		{"REDIRECT_OUTBOUND_EXCLUDE_PORTS_FOR_IPS", "exclude-outbound-ips", &a.outbound.ips},
		{"REDIRECT_OUTBOUND_EXCLUDE_PORTS_FOR_UIDS", "exclude-outbound-ports-for-uids", &a.outbound.uids},
		{"REDIRECT_VNET_NETWORKS", "vnet", &a.vnet},
	} {
		if text, set := lookup(variablePrefix + v.name); set && !f.Changed(v.flag) {
			*v.into = options.Split(text)
		}
	}
}
