// SPDX-License-Identifier: Apache-2.0

package options

import (
	"github.com/weir-mesh/weir/internal/parse"
	"github.com/weir-mesh/weir/modes"
)

// Linkerd is what proxy-init can be told. What is empty, or a nil list, is left as it is.
type Linkerd struct {
	UID, GID                  string
	InboundPort, OutboundPort modes.PortWord
	IncludeInbound            []modes.PortWord
	SkipInbound, SkipOutbound []modes.PortWord
	SkipSubnets               []string // sources
}

// LinkerdRules are proxy-init's whatever it is told: all of lo is left alone, the proxy's calls to its own
// pod too, and there is no tunnel.
func LinkerdRules() modes.Config {
	return modes.Config{
		Mode:     modes.ModeSidecar,
		Proxy:    modes.Proxy{OwnCalls: "left"},
		Inbound:  modes.Inbound{Via: "redirect", TunnelPort: "none"},
		Outbound: modes.Outbound{Via: "redirect"},
		Loopback: modes.Loopback{Passthrough: []string{}},
	}
}

// LinkerdDefaults are what Linkerd's chart tells it.
func LinkerdDefaults() modes.Config {
	return Linkerd{UID: "2102", InboundPort: "4143", OutboundPort: "4140", SkipInbound: modes.Ports(4190, 4191)}.Over(LinkerdRules())
}

// Over is a configuration with the options. A port that is both included and skipped is skipped.
func (o Linkerd) Over(c modes.Config) modes.Config {
	if o.UID != "" {
		c.Proxy.UIDs = []string{o.UID}
	}
	if o.GID != "" {
		c.Proxy.GIDs = []string{o.GID}
	}
	set(&c.Inbound.Port, o.InboundPort)
	set(&c.Outbound.Port, o.OutboundPort)
	in := &c.Inbound
	setList(&in.IncludePorts, o.IncludeInbound)
	setList(&in.ExcludePorts, o.SkipInbound)
	setList(&in.ExcludeSources, o.SkipSubnets)
	setList(&c.Outbound.ExcludePorts, o.SkipOutbound)
	if includesSome(in.IncludePorts) {
		in.IncludePorts = parse.WithoutPorts(in.IncludePorts, in.ExcludePorts)
		in.ExcludePorts = nil
		if len(in.IncludePorts) == 0 {
			in.Via, in.IncludePorts = "none", nil
		}
	}
	return c
}
