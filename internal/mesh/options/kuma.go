// SPDX-License-Identifier: Apache-2.0

package options

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/weir-mesh/weir/internal/term"
	"github.com/weir-mesh/weir/modes"
)

// Kuma is what Kuma's transparent proxy can be told. What is empty, or a nil list, is left as it is.
type Kuma struct {
	UID               string // an id or a name
	Inbound, Outbound KumaFlow
	UserExclusions    []string // of outbound: [protocol:][ports:]uids
	InboundUsers      []string // the same of inbound, where nothing has a user
	DNS               KumaDNS
	TCPQueries        bool     // queries over TCP are captured as other TCP
	Networks          []string // interface:CIDR
	DropInvalid       string   // enabled or disabled
	Family            string   // dualstack or ipv4
	ResolvConf        string   // the file of the resolvers, which is /etc/resolv.conf
}

// KumaFlow is one direction.
type KumaFlow struct {
	Off              bool
	Port             modes.PortWord
	Include, Exclude []modes.PortWord
	ExcludeIPs       []string // sources, or destinations
}

// KumaDNS is the capture of queries over UDP.
type KumaDNS struct {
	Enabled bool // queries to the resolvers are captured
	All     bool // those to any address, where Enabled
	Port    modes.PortWord
	NoZones bool
}

const (
	// KumaUID is the proxy's user where none is told.
	KumaUID = 5678

	maxID = 1<<32 - 2 // the next one means none to the kernel
)

// KumaRules are the transparent proxy's whatever it is told, with the ports that it has unless it is told
// others: there is no tunnel, and what is excluded by address comes before queries.
func KumaRules() modes.Config {
	return modes.Config{
		Mode:     modes.ModeSidecar,
		Inbound:  modes.Inbound{Via: "redirect", Port: "15006", TunnelPort: "none"},
		Outbound: modes.Outbound{Via: "redirect", Port: "15001"},
		DNS:      modes.DNS{Port: "15053", Protocols: []string{"udp"}, Exclusions: "all"},
	}
}

// KumaDefaults are what Kuma's injector tells it.
func KumaDefaults() modes.Config {
	c := KumaRules()
	c.Proxy.UIDs = modes.IDs(KumaUID)
	return c
}

// Over is a configuration with the options.
func (o Kuma) Over(c modes.Config) (modes.Config, []Problem) {
	if o.UID != "" {
		c.Proxy.UIDs = []string{o.UID}
	}
	o.Inbound.over(&c.Inbound.Via, &c.Inbound.Port, &c.Inbound.IncludePorts, &c.Inbound.ExcludePorts, &c.Inbound.ExcludeSources)
	o.Outbound.over(&c.Outbound.Via, &c.Outbound.Port, &c.Outbound.IncludePorts, &c.Outbound.ExcludePorts, &c.Outbound.ExcludeCIDRs)
	switch {
	case o.DNS.Enabled && o.DNS.All:
		c.DNS.Capture = "all"
	case o.DNS.Enabled:
		c.DNS.Capture = "servers"
	}
	set(&c.DNS.Port, o.DNS.Port)
	set(&c.DropInvalid, o.DropInvalid)
	queries := c.DNS.Capture != "" && c.DNS.Capture != "none"
	if o.DNS.NoZones && queries {
		c.DNS.Zones = "disabled"
	}
	exclusions, wrong := o.exclusions()
	setList(&c.Outbound.Exclude, exclusions)
	wrong = append(wrong, o.reroute(&c.Interfaces)...)
	problem := func(option Option, format string, args ...any) {
		wrong = append(wrong, Problem{Option: option, Text: fmt.Sprintf(format, args...)})
	}
	if len(o.InboundUsers) > 0 {
		problem(InboundUsers, "what comes in has no user")
	}
	if o.ResolvConf != "" && o.ResolvConf != "/etc/resolv.conf" {
		problem(ResolvConf, "%q is not read (want /etc/resolv.conf)", term.Shorten(o.ResolvConf))
	}
	switch strings.ToLower(o.Family) {
	case "", "dualstack":
	case "ipv4":
		c.IPv6 = "disabled"
	default:
		problem(Family, "%q is not a family (want dualstack or ipv4)", term.Shorten(o.Family))
	}
	settleInbound(&c.Inbound)
	o.settleOutbound(&c, queries)
	return c, wrong
}

func (f KumaFlow) over(via *string, port *modes.PortWord, include, exclude *[]modes.PortWord, addresses *[]string) {
	if f.Off {
		*via = "none"
	}
	set(port, f.Port)
	setList(include, f.Include)
	setList(exclude, f.Exclude)
	setList(addresses, f.ExcludeIPs)
}

// settleInbound has excluded ports count only where none are included.
func settleInbound(in *modes.Inbound) {
	switch {
	case in.Via == "none":
		in.IncludePorts, in.ExcludePorts, in.ExcludeSources = nil, nil, nil
	case includesSome(in.IncludePorts):
		in.ExcludePorts = nil
	}
}

// settleOutbound has excluded ports count only where none are included, and only for TCP where UDP to one of
// them is a query that is captured. With queries captured, those over TCP are left alone, but for the proxy's.
func (o Kuma) settleOutbound(c *modes.Config, queries bool) {
	out := &c.Outbound
	if out.Via == "none" {
		c.Proxy.OwnCalls = "left"
		out.IncludePorts, out.ExcludePorts, out.Exclude = nil, nil, nil
		return
	}
	switch {
	case len(out.IncludePorts) > 0:
		out.IncludeCIDRs, out.ExcludePorts = []string{}, nil
	case queries && slices.Contains(out.ExcludePorts, "53"):
		out.Exclude = append(out.Exclude, modes.Excluded{Protocol: "tcp", Ports: out.ExcludePorts})
		out.ExcludePorts = nil
	}
	if queries && !o.TCPQueries {
		out.Exclude = append(out.Exclude, modes.Excluded{UIDs: allBut(c.Proxy.UIDs), Protocol: "tcp", Ports: modes.Ports(53)})
	}
}

// allBut are the ranges of all users but the proxy's; none, which is every user, where it has no single id.
func allBut(proxy []string) []string {
	if len(proxy) != 1 {
		return nil
	}
	id, err := strconv.ParseUint(proxy[0], 10, 32)
	if err != nil || id > maxID {
		return nil
	}
	var out []string
	if id > 0 {
		out = append(out, fmt.Sprintf("0-%d", id-1))
	}
	if id < maxID {
		out = append(out, fmt.Sprintf("%d-%d", id+1, maxID))
	}
	return out
}

// exclusions reads [protocol:][ports:]uids of each entry; * is every protocol, or every port.
func (o Kuma) exclusions() (out []modes.Excluded, wrong []Problem) {
	if o.UserExclusions != nil {
		out = []modes.Excluded{}
	}
	for i, text := range o.UserExclusions {
		excluded, ok := userExclusion(text)
		if !ok {
			wrong = append(wrong, Problem{UserExclusions, i + 1,
				fmt.Sprintf("%q is not [protocol:][ports:]uids (want such as tcp:80,8000-8100:1000-2000, with one user or one range)", term.Shorten(text))})
		}
		out = append(out, excluded...)
	}
	return out, wrong
}

func userExclusion(text string) (out []modes.Excluded, ok bool) {
	parts := strings.Split(strings.TrimSpace(text), ":")
	users := parts[len(parts)-1]
	if len(parts) > 3 || users == "" || users == "*" || strings.Contains(users, ",") {
		return nil, false
	}
	x := modes.Excluded{UIDs: []string{users}}
	if len(parts) > 1 && parts[len(parts)-2] != "*" {
		x.Ports = PortWords(Split(parts[len(parts)-2]))
	}
	if len(parts) < 3 || parts[0] == "" || parts[0] == "*" {
		return []modes.Excluded{x}, true
	}
	for _, p := range Split(parts[0]) {
		if x.Protocol = strings.ToLower(p); x.Protocol != "tcp" && x.Protocol != "udp" {
			return nil, false
		}
		out = append(out, x)
	}
	return out, true
}

// reroute treats what comes from an interface to elsewhere than the network as outbound, its queries too. Of
// several networks of one interface and family the last one counts.
func (o Kuma) reroute(interfaces *modes.Interfaces) (wrong []Problem) {
	at := map[string]int{}
	for i, text := range o.Networks {
		name, cidr, _ := strings.Cut(text, ":")
		p, err := netip.ParsePrefix(cidr)
		if err != nil || name == "" {
			wrong = append(wrong, Problem{Networks, i + 1,
				fmt.Sprintf("%q is not interface:CIDR (want such as docker0:172.17.0.0/16 or br+:172.18.0.0/16)", term.Shorten(text))})
			continue
		}
		family := "ipv4"
		if p.Addr().Is6() {
			family = "ipv6"
		}
		r := modes.Rerouted{Name: name, Exclusions: "ignored", ExcludeCIDRs: []string{cidr}, DNS: "enabled", Family: family}
		key := name + " " + family
		if i, twice := at[key]; twice {
			interfaces.Reroute[i] = r
			continue
		}
		at[key] = len(interfaces.Reroute)
		interfaces.Reroute = append(interfaces.Reroute, r)
	}
	return wrong
}
