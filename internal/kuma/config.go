//go:build linux

package kuma

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/weir-mesh/weir/internal/meshinit"
	"github.com/weir-mesh/weir/internal/problems"
	"github.com/weir-mesh/weir/internal/term"
	"github.com/weir-mesh/weir/modes"
)

const (
	defaultUID  = 5678
	defaultUser = "kuma-dp"
	lastUID     = 1<<32 - 2
)

// names are the flags of install transparent-proxy for the keys of a configuration.
var names = meshinit.Names{
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

// meaning is the configuration that means the same, but for IPv6, which the namespace decides. There is no tunnel, and
// what is excluded by address comes before queries.
func (a *arguments) meaning(env modes.Environment) (modes.Config, error) {
	refused := a.refused()
	uid, err := a.uid(env)
	c := modes.Config{
		Mode:     modes.ModeSidecar,
		Proxy:    modes.Proxy{UIDs: []string{strconv.FormatUint(uint64(uid), 10)}},
		Inbound:  a.in(),
		Outbound: modes.Outbound{Port: modes.PortWord(a.outbound.port), ExcludeCIDRs: lists(a.outbound.ips)},
		DNS:      modes.DNS{Capture: "none", Port: modes.PortWord(a.dnsPort), Protocols: []string{"udp"}, Exclusions: "all"},
	}
	switch {
	case a.allDNS:
		c.DNS.Capture = "all"
	case a.dns:
		c.DNS.Capture = "servers"
	}
	if a.noZones && c.DNS.Capture != "none" {
		c.DNS.Zones = "disabled"
	}
	if a.dropInvalid {
		c.DropInvalid = "enabled"
	}
	usersErr := a.excludeUsers(&c)
	a.out(&c, uid)
	vnetErr := a.networks(&c)
	return c, problems.Join(refused, err, usersErr, vnetErr, names.Problem(modes.Check(c)))
}

// uid is the proxy's user. The reference wants passwd to list it.
func (a *arguments) uid(env modes.Environment) (uint32, error) {
	if a.user == "" {
		if id, known := env.Users[defaultUser]; known && !hasUser(env, defaultUID) {
			return id, nil
		}
		return defaultUID, nil
	}
	if n, err := strconv.ParseUint(a.user, 10, 32); err == nil && n <= lastUID {
		return uint32(n), nil
	}
	if id, known := env.Users[a.user]; known {
		return id, nil
	}
	return defaultUID, fmt.Errorf("--kuma-dp-user: %q is neither a number nor a user known here", term.Shorten(a.user))
}

func hasUser(env modes.Environment, uid uint32) bool {
	for _, id := range env.Users {
		if id == uid {
			return true
		}
	}
	return false
}

// in has excluded ports count only where none are included, as in the reference.
func (a *arguments) in() modes.Inbound {
	in := modes.Inbound{Via: "redirect", Port: modes.PortWord(a.inbound.port), TunnelPort: "none"}
	if !a.inbound.enabled {
		in.Via = "none"
		return in
	}
	in.ExcludeSources = lists(a.inbound.ips)
	if include := meshinit.PortWords(meshinit.Split(a.inbound.include)); len(include) > 0 {
		in.IncludePorts = include
	} else {
		in.ExcludePorts = meshinit.PortWords(meshinit.Split(a.inbound.exclude))
	}
	return in
}

// out excludes ports of TCP alone, where UDP to one of them is a query. With queries captured, those over TCP are left
// alone, but for the proxy's.
func (a *arguments) out(c *modes.Config, uid uint32) {
	if !a.outbound.enabled {
		c.Outbound.Via, c.Proxy.OwnCalls = "none", "left"
		return
	}
	excluded := meshinit.PortWords(meshinit.Split(a.outbound.exclude))
	include := meshinit.PortWords(meshinit.Split(a.outbound.include))
	switch {
	case len(include) > 0:
		c.Outbound.IncludeCIDRs, c.Outbound.IncludePorts = []string{}, include
	case slices.Contains(excluded, "53") && c.DNS.Capture != "none":
		c.Outbound.Exclude = append(c.Outbound.Exclude, modes.Excluded{Protocol: "tcp", Ports: excluded})
	default:
		c.Outbound.ExcludePorts = excluded
	}
	if c.DNS.Capture != "none" && !a.insertOutbound {
		c.Outbound.Exclude = append(c.Outbound.Exclude, modes.Excluded{UIDs: allBut(uid), Protocol: "tcp", Ports: modes.Ports(53)})
	}
}

// allBut are the ranges of all users but one.
func allBut(uid uint32) []string {
	var out []string
	add := func(lo, hi uint32) {
		if lo <= hi {
			out = append(out, fmt.Sprintf("%d-%d", lo, hi))
		}
	}
	if uid > 0 {
		add(0, uid-1)
	}
	add(uid+1, lastUID)
	return out
}

// excludeUsers reads [protocol:][ports:]uids.
func (a *arguments) excludeUsers(c *modes.Config) error {
	var errs []error
	for _, text := range a.outbound.uids {
		parts := strings.Split(text, ":")
		if len(parts) > 3 || strings.Contains(parts[len(parts)-1], ",") || parts[len(parts)-1] == "*" || parts[len(parts)-1] == "" {
			errs = append(errs, fmt.Errorf("--exclude-outbound-ports-for-uids: %q is not [protocol:][ports:]uids (want such as tcp:80,8000-8100:1000-2000, with one user or one range)", term.Shorten(text)))
			continue
		}
		x := modes.Excluded{UIDs: []string{parts[len(parts)-1]}}
		if len(parts) > 1 && parts[len(parts)-2] != "*" {
			x.Ports = meshinit.PortWords(meshinit.Split(parts[len(parts)-2]))
		}
		if len(parts) < 3 || parts[0] == "" || parts[0] == "*" {
			c.Outbound.Exclude = append(c.Outbound.Exclude, x)
			continue
		}
		for _, p := range meshinit.Split(parts[0]) {
			x.Protocol = strings.ToLower(p)
			c.Outbound.Exclude = append(c.Outbound.Exclude, x)
		}
	}
	return problems.Join(errs...)
}

// networks reroutes interfaces. Of several networks of one family the last one counts, as in the reference.
func (a *arguments) networks(c *modes.Config) error {
	var errs []error
	at := map[string]int{}
	for _, text := range a.vnet {
		name, cidr, _ := strings.Cut(text, ":")
		p, err := netip.ParsePrefix(cidr)
		if err != nil || name == "" {
			errs = append(errs, fmt.Errorf("--vnet: %q is not interface:CIDR (want such as docker0:172.17.0.0/16 or br+:172.18.0.0/16)", term.Shorten(text)))
			continue
		}
		family := "ipv4"
		if p.Addr().Is6() {
			family = "ipv6"
		}
		r := modes.Rerouted{Name: name, Exclusions: "ignored", ExcludeCIDRs: []string{cidr}, DNS: "enabled", Family: family}
		if i, twice := at[name+" "+family]; twice {
			c.Interfaces.Reroute[i] = r
			continue
		}
		at[name+" "+family] = len(c.Interfaces.Reroute)
		c.Interfaces.Reroute = append(c.Interfaces.Reroute, r)
	}
	return problems.Join(errs...)
}

// lists joins lists with commas.
func lists(all []string) (out []string) {
	for _, l := range all {
		out = append(out, meshinit.Split(l)...)
	}
	return out
}
