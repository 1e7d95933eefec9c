//go:build linux

package consul

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"

	"github.com/weir-mesh/weir/internal/meshinit"
	"github.com/weir-mesh/weir/internal/problems"
	"github.com/weir-mesh/weir/internal/term"
	"github.com/weir-mesh/weir/modes"
)

// names are redirect-traffic's flags for the keys of a configuration.
var names = meshinit.Names{
	{Key: "proxy.uids"}:            "-proxy-uid",
	{Key: "inbound.port"}:          "-proxy-inbound-port",
	{Key: "inbound.excludePorts"}:  "-exclude-inbound-port",
	{Key: "outbound.port"}:         "-proxy-outbound-port",
	{Key: "outbound.excludePorts"}: "-exclude-outbound-port",
	{Key: "outbound.excludeCIDRs"}: "-exclude-outbound-cidr",
	{Key: "outbound.excludeUIDs"}:  "-exclude-uid",
	{Key: "dns.servers"}:           "-consul-dns-ip",
	{Key: "dns.to"}:                "-consul-dns-ip",
	{Key: "ipv6"}:                  "-dual-stack",
}

// config is the configuration that means the same: the application's calls to its own pod are captured and the
// proxy's are not, there is no tunnel, and queries come before everything else, the proxy's too.
func (a *arguments) config() (modes.Config, error) {
	c := modes.Config{
		Mode:    modes.ModeSidecar,
		IPv6:    "disabled",
		Proxy:   modes.Proxy{UIDs: []string{a.uid}, OwnCalls: "left"},
		Inbound: modes.Inbound{Port: modes.PortWord(strconv.Itoa(a.inbound)), TunnelPort: "none", ExcludePorts: meshinit.PortWords(a.inPorts)},
		Outbound: modes.Outbound{Port: modes.PortWord(strconv.Itoa(a.outbound)), OwnPod: "captured",
			ExcludePorts: meshinit.PortWords(a.outPorts), ExcludeCIDRs: a.outCIDRs, ExcludeUIDs: a.ids},
		Loopback: modes.Loopback{Passthrough: []string{}},
	}
	if a.dualStack {
		c.IPv6 = "enabled"
	}
	refused := a.refused()
	if a.uid == "" || a.inbound == 0 {
		return c, refused
	}
	a.dns(&c)
	return c, problems.Join(refused, names.Problem(modes.Check(c)))
}

// dns answers queries at Consul's DNS service: with an address alone those to anyone, with a port those to the address.
func (a *arguments) dns(c *modes.Config) {
	first := modes.DNS{Zones: "disabled", Exclusions: "none", ProxyQueries: "captured"}
	at := a.dnsIP
	switch {
	case a.dnsPort != 0:
		if at == "" && a.dualStack {
			at = "::1"
		} else if at == "" {
			at = "127.0.0.1"
		}
		addr, err := netip.ParseAddr(at)
		if err != nil {
			return // refused
		}
		first.Capture, first.Servers = "servers", []string{at}
		first.To = []string{netip.AddrPortFrom(addr, uint16(a.dnsPort)).String()}
	case at != "":
		first.Capture, first.To = "all", []string{at}
	default:
		return
	}
	c.DNS = first
}

// refused reports what the reference refuses and a configuration does not, and what cannot be done.
func (a *arguments) refused() error {
	var errs []error
	problem := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if a.uid == "" {
		problem("-proxy-uid: is required")
	}
	if a.id != "" {
		problem("-proxy-id: Consul is not asked for the registration of %q (want -proxy-inbound-port, and the ports that it exposes as -exclude-inbound-port)", term.Shorten(a.id))
	}
	if a.node != "" {
		problem("-node-name: is used only with -proxy-id, which Consul would be asked for")
	}
	if a.inbound == 0 && a.id == "" {
		problem("-proxy-inbound-port: is required")
	}
	if a.dnsPort < 0 || a.dnsPort > 65535 {
		problem("-consul-dns-port: %d is not a port (want a number of 1-65535)", a.dnsPort)
	}
	if a.dnsIP != "" {
		switch at, err := netip.ParseAddr(a.dnsIP); {
		case err != nil:
			problem("-consul-dns-ip: %q is not an address", term.Shorten(a.dnsIP))
		case a.dualStack && at.Is4():
			problem("-consul-dns-ip: %s is IPv4, and with -dual-stack IPv6's queries alone are captured", at)
		case !a.dualStack && !at.Is4():
			problem("-consul-dns-ip: %s is IPv6, which is captured only with -dual-stack", at)
		}
	}
	return errors.Join(errs...)
}
