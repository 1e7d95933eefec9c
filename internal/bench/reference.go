// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"fmt"
	"net/netip"
	"strings"
)

// The ports and the owner of a proxy, in weir's configuration and in the
// reference's rules.
const (
	proxyID      = "1337"
	outboundPort = 15001
	inboundPort  = 15006
	tunnelPort   = 15008
)

// leftPorts are the inbound ports that an injected sidecar always leaves alone.
var leftPorts = []uint16{15090, 15021, 15020}

// A family is one half of the reference's work: it has a program for each.
type family struct {
	prefix      string // of the programs' names
	loopback    string
	passthrough string
	ipv6        bool
}

var families = []family{
	{prefix: "iptables-nft", loopback: "127.0.0.1/32", passthrough: "127.0.0.6/32"},
	{prefix: "ip6tables-nft", loopback: "::1/128", passthrough: "::6/128", ipv6: true},
}

// rules are what istio-init writes for a sidecar by REDIRECT, a rule for each
// item, in the order in which packets meet them: a chain's name first.
func (f family) rules(excluded []netip.Prefix) []string {
	var out []string
	add := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	add("PREROUTING -p tcp -j ISTIO_INBOUND")
	add("ISTIO_INBOUND -p tcp --dport %d -j RETURN", tunnelPort)
	for _, port := range leftPorts {
		add("ISTIO_INBOUND -p tcp --dport %d -j RETURN", port)
	}
	add("ISTIO_INBOUND -p tcp -j ISTIO_IN_REDIRECT")
	add("ISTIO_IN_REDIRECT -p tcp -j REDIRECT --to-ports %d", inboundPort)
	add("ISTIO_REDIRECT -p tcp -j REDIRECT --to-ports %d", outboundPort)
	add("OUTPUT -j ISTIO_OUTPUT")
	add("ISTIO_OUTPUT -o lo -s %s -j RETURN", f.passthrough)
	for _, owner := range []string{"--uid-owner " + proxyID, "--gid-owner " + proxyID} {
		add("ISTIO_OUTPUT -o lo ! -d %s -p tcp ! --dport %d -m owner %s -j ISTIO_IN_REDIRECT", f.loopback, tunnelPort, owner)
		add("ISTIO_OUTPUT -o lo -m owner ! %s -j RETURN", owner)
		add("ISTIO_OUTPUT -m owner %s -j RETURN", owner)
	}
	add("ISTIO_OUTPUT -d %s -j RETURN", f.loopback)
	for _, p := range excluded {
		if p.Addr().Is6() == f.ipv6 {
			add("ISTIO_OUTPUT -d %s -j RETURN", p)
		}
	}
	add("ISTIO_OUTPUT -j ISTIO_REDIRECT")
	return out
}

// restore is the rules as iptables-restore reads them.
func (f family) restore(excluded []netip.Prefix) string {
	var out strings.Builder
	out.WriteString("*nat\n")
	for _, chain := range []string{"ISTIO_INBOUND", "ISTIO_IN_REDIRECT", "ISTIO_REDIRECT", "ISTIO_OUTPUT"} {
		out.WriteString("-N " + chain + "\n")
	}
	for _, r := range f.rules(excluded) {
		out.WriteString("-A " + r + "\n")
	}
	out.WriteString("COMMIT\n")
	return out.String()
}

// reference is what the reference program runs, in turn, for one configuration;
// what it does itself between them is not counted.
type reference struct {
	detect  []command // which variant of iptables there is, and whether it works
	save    []command // once before, to compare, and once after, to log
	restore []command
	check   []command // whether a rule is there: one process each
}

func (b *bench) reference(name string, excluded []netip.Prefix) (r reference, err error) {
	for _, f := range families {
		path, err := b.write(name+"."+f.prefix, f.restore(excluded))
		if err != nil {
			return r, err
		}
		save := command{Args: []string{f.prefix + "-save"}}
		probe := func(op string) command {
			return command{Args: []string{f.prefix, "-t", "nat", op, "INPUT", "-p", "255", "-j", "RETURN"}}
		}
		r.detect = append(r.detect, save, command{Args: []string{f.prefix + "-save", "--version"}}, probe("-A"), probe("-D"))
		r.save = append(r.save, save)
		r.restore = append(r.restore, command{Args: []string{f.prefix + "-restore", "--noflush"}, Stdin: path})
		for _, rule := range f.rules(excluded) {
			r.check = append(r.check, command{Args: append([]string{f.prefix, "-t", "nat", "-C"}, strings.Fields(rule)...)})
		}
	}
	return r, nil
}
