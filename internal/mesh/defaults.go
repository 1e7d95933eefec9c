package mesh

import (
	"slices"

	"github.com/weir-mesh/weir/modes"
)

// Default is the configuration of a mesh's pods that say nothing else.
func Default(name string) modes.Config {
	c := modes.Config{Mode: modes.ModeSidecar}
	switch name {
	case Istio:
		c.Proxy = modes.Proxy{UIDs: modes.IDs(istioProxyID), GIDs: modes.IDs(istioProxyID)}
		c.Inbound = modes.Inbound{Via: "redirect", ExcludePorts: []modes.PortWord{"15020"}}
		c.Outbound = modes.Outbound{Via: "redirect", ExcludePorts: []modes.PortWord{"15020"}}
	case Linkerd:
		c.Proxy = modes.Proxy{UIDs: []string{"2102"}, OwnCalls: "left"}
		c.Inbound = modes.Inbound{Via: "redirect", Port: "4143", TunnelPort: "none", ExcludePorts: []modes.PortWord{"4190", "4191"}}
		c.Outbound = modes.Outbound{Via: "redirect", Port: "4140"}
		c.Loopback.Passthrough = []string{}
	case Kuma:
		c.Proxy = modes.Proxy{UIDs: []string{"5678"}}
		c.Inbound = modes.Inbound{Via: "redirect", Port: "15006", TunnelPort: "none"}
		c.Outbound = modes.Outbound{Via: "redirect", Port: "15001"}
		c.DNS = modes.DNS{Port: "15053", Protocols: []string{"udp"}, Exclusions: "all"}
	case Consul, Nomad:
		c.Proxy = modes.Proxy{UIDs: []string{"5995"}, OwnCalls: "left"}
		c.Inbound = modes.Inbound{Via: "redirect", Port: "20000", TunnelPort: "none"}
		c.Outbound = modes.Outbound{Via: "redirect", Port: "15001", OwnPod: "captured"}
		c.DNS = modes.DNS{Zones: "disabled", Exclusions: "none", ProxyQueries: "captured"}
		c.Loopback.Passthrough = []string{}
	}
	return c
}

// defaults are those of the mesh with what whoever runs the node decided.
func (r Rules) defaults(name string) modes.Config {
	return Overlay(Default(name), r.Defaults[name])
}

// Overlay is a configuration in which the keys that another one sets have its values.
func Overlay(base, over modes.Config) modes.Config {
	for _, k := range modes.Keys() {
		switch words, set := k.Get(&over); {
		case !set:
		case len(k.Items) > 0:
			k.Set(&base)
			for _, item := range k.GetItems(&over) {
				k.AddItem(&base, item)
			}
		default:
			k.Set(&base, slices.Clone(words)...)
		}
	}
	return base
}
