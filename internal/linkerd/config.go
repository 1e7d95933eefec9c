// SPDX-License-Identifier: Apache-2.0

//go:build linux

package linkerd

import (
	"strconv"
	"strings"

	"github.com/weir-mesh/weir/internal/mesh/options"
	"github.com/weir-mesh/weir/internal/meshinit"
	"github.com/weir-mesh/weir/internal/problems"
	"github.com/weir-mesh/weir/modes"
)

// names are proxy-init's flags for the keys of a configuration.
func names() meshinit.Names {
	return meshinit.Names{
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
}

// config is the configuration that means the same.
func (a *arguments) config() (modes.Config, error) {
	o := options.Linkerd{
		InboundPort: given(a.incoming), OutboundPort: given(a.outgoing),
		IncludeInbound: numbers(a.redirect), SkipInbound: options.PortWords(a.inboundIgnore), SkipOutbound: options.PortWords(a.outboundIgnore),
	}
	for _, s := range a.subnets {
		o.SkipSubnets = append(o.SkipSubnets, strings.TrimSpace(s))
	}
	if a.uid > 0 {
		o.UID = strconv.Itoa(a.uid)
	}
	if a.gid > 0 {
		o.GID = strconv.Itoa(a.gid)
	}
	c := o.Over(options.LinkerdRules())
	c.IPv6 = options.OnOff(a.ipv6)
	if err := a.refused(); err != nil {
		if a.uid <= 0 && a.gid <= 0 {
			c.Proxy.UIDs = []string{"1"} // reported already
		}
		return c, problems.Join(err, names().Problem(modes.Check(c)))
	}
	return c, names().Problem(modes.Check(c))
}

// given is a port as a configuration has it; for one that is missing, which refused reports, it is the mesh's.
func given(port int) modes.PortWord {
	if port == noPort {
		return ""
	}
	return number(port)
}

func number(port int) modes.PortWord { return modes.PortWord(strconv.Itoa(port)) }

func numbers(ports []int) (out []modes.PortWord) {
	for _, p := range ports {
		out = append(out, number(p))
	}
	return out
}
