//go:build linux

package linkerd

import (
	"strconv"
	"strings"

	"github.com/weir-mesh/weir/internal/meshinit"
	"github.com/weir-mesh/weir/internal/parse"
	"github.com/weir-mesh/weir/internal/problems"
	"github.com/weir-mesh/weir/modes"
)

// names are proxy-init's flags for the keys of a configuration.
var names = meshinit.Names{
	{Key: "proxy.uids"}:             "--proxy-uid",
	{Key: "proxy.gids"}:             "--proxy-gid",
	{Key: "inbound.port"}:           "--incoming-proxy-port",
	{Key: "inbound.includePorts"}:   "--ports-to-redirect",
	{Key: "inbound.excludePorts"}:   "--inbound-ports-to-ignore",
	{Key: "inbound.excludeSources"}: "--subnets-to-ignore",
	{Key: "outbound.port"}:          "--outgoing-proxy-port",
	{Key: "outbound.excludePorts"}:  "--outbound-ports-to-ignore",
	{Key: "ipv6"}:                   "--ipv6",
}

// config is the configuration that means the same. All of lo is left alone, the proxy's calls to its own pod too, and
// there is no tunnel.
func (a *arguments) config() (modes.Config, error) {
	c := modes.Config{
		Mode:     modes.ModeSidecar,
		IPv6:     "disabled",
		Proxy:    modes.Proxy{OwnCalls: "left"},
		Inbound:  a.inbound(),
		Outbound: modes.Outbound{Port: number(a.outgoing), ExcludePorts: meshinit.PortWords(a.outboundIgnore)},
		Loopback: modes.Loopback{Passthrough: []string{}},
	}
	if a.ipv6 {
		c.IPv6 = "enabled"
	}
	if a.uid > 0 {
		c.Proxy.UIDs = []string{strconv.Itoa(a.uid)}
	}
	if a.gid > 0 {
		c.Proxy.GIDs = []string{strconv.Itoa(a.gid)}
	}
	if err := a.refused(); err != nil {
		if a.uid <= 0 && a.gid <= 0 {
			c.Proxy.UIDs = []string{"1"} // reported already
		}
		return c, problems.Join(err, names.Problem(modes.Check(c)))
	}
	return c, names.Problem(modes.Check(c))
}

// inbound leaves out of the ports to redirect what is ignored too: to ignore wins in the reference.
func (a *arguments) inbound() modes.Inbound {
	in := modes.Inbound{Via: "redirect", Port: number(a.incoming), TunnelPort: "none"}
	for _, s := range a.subnets {
		in.ExcludeSources = append(in.ExcludeSources, strings.TrimSpace(s))
	}
	ignored := meshinit.PortWords(a.inboundIgnore)
	if len(a.redirect) == 0 {
		in.ExcludePorts = ignored
		return in
	}
	for _, p := range a.redirect {
		in.IncludePorts = append(in.IncludePorts, number(p))
	}
	if in.IncludePorts = parse.WithoutPorts(in.IncludePorts, ignored); len(in.IncludePorts) == 0 {
		in.Via, in.IncludePorts = "none", nil
	}
	return in
}

func number(port int) modes.PortWord { return modes.PortWord(strconv.Itoa(port)) }
