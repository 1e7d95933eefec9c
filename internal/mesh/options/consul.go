// SPDX-License-Identifier: Apache-2.0

package options

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/weir-mesh/weir/internal/term"
	"github.com/weir-mesh/weir/modes"
)

// Consul is what redirect-traffic can be told. What is empty or 0 is left as it is, and lists are added.
type Consul struct {
	UID                             string
	InboundPort, OutboundPort       modes.PortWord
	ExcludeInbound, ExcludeOutbound []modes.PortWord
	ExcludeCIDRs, ExcludeUIDs       []string
	DNSAddress                      string // of Consul's DNS service
	DNSPort                         int
	DualStack                       *bool // nil: not known
}

// ConsulRules are redirect-traffic's whatever it is told: the application's calls to its own pod are
// captured and the proxy's are not, there is no tunnel, and all of lo is left alone.
func ConsulRules() modes.Config {
	return modes.Config{
		Mode:     modes.ModeSidecar,
		Proxy:    modes.Proxy{OwnCalls: "left"},
		Inbound:  modes.Inbound{Via: "redirect", TunnelPort: "none"},
		Outbound: modes.Outbound{Via: "redirect", Port: "15001", OwnPod: "captured"},
		Loopback: modes.Loopback{Passthrough: []string{}},
	}
}

// ConsulDefaults are the user and the port that Consul's injector tells it.
func ConsulDefaults() modes.Config {
	c, _ := Consul{UID: "5995", InboundPort: "20000"}.Over(ConsulRules()) // without DNS nothing can be wrong
	return c
}

// Over is a configuration with the options.
func (o Consul) Over(c modes.Config) (modes.Config, []Problem) {
	if o.UID != "" {
		c.Proxy.UIDs = []string{o.UID}
	}
	set(&c.Inbound.Port, o.InboundPort)
	set(&c.Outbound.Port, o.OutboundPort)
	c.Inbound.ExcludePorts = slices.Concat(c.Inbound.ExcludePorts, o.ExcludeInbound)
	c.Outbound.ExcludePorts = slices.Concat(c.Outbound.ExcludePorts, o.ExcludeOutbound)
	c.Outbound.ExcludeCIDRs = slices.Concat(c.Outbound.ExcludeCIDRs, o.ExcludeCIDRs)
	c.Outbound.ExcludeUIDs = slices.Concat(c.Outbound.ExcludeUIDs, o.ExcludeUIDs)
	if o.DualStack != nil && !*o.DualStack {
		c.IPv6 = "disabled"
	}
	return c, o.dns(&c.DNS)
}

// dns answers queries at Consul's DNS service: with an address alone those to any address, with a port those
// to the address, or to the loopback address where there is none. They come before everything else, the
// proxy's too.
func (o Consul) dns(dns *modes.DNS) (wrong []Problem) {
	problem := func(option Option, format string, args ...any) {
		wrong = append(wrong, Problem{Option: option, Text: fmt.Sprintf(format, args...)})
	}
	if o.DNSPort < 0 || o.DNSPort > 65535 {
		problem(DNSPort, "%d is not a port (want a number of 1-65535)", o.DNSPort)
	}
	both := o.DualStack != nil && *o.DualStack
	address := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	if both {
		address = netip.IPv6Loopback()
	}
	if o.DNSAddress != "" {
		var err error
		switch address, err = netip.ParseAddr(o.DNSAddress); {
		case err != nil:
			problem(DNSAddress, "%q is not an address", term.Shorten(o.DNSAddress))
		case both && address.Is4():
			problem(DNSAddress, "%s is IPv4, and with dual stack only queries over IPv6 are captured", address)
		case o.DualStack != nil && !both && !address.Is4():
			problem(DNSAddress, "%s is IPv6, which is captured only with dual stack", address)
		}
	}
	switch {
	case len(wrong) > 0:
	case o.DNSPort != 0:
		dns.Capture, dns.Servers = "servers", []string{address.String()}
		dns.To = []string{netip.AddrPortFrom(address, uint16(o.DNSPort)).String()}
	case o.DNSAddress != "":
		dns.Capture, dns.To = "all", []string{address.String()}
	}
	if dns.Capture != "" {
		dns.Zones, dns.Exclusions, dns.ProxyQueries = cmp.Or(dns.Zones, "disabled"), cmp.Or(dns.Exclusions, "none"), cmp.Or(dns.ProxyQueries, "captured")
	}
	return wrong
}
