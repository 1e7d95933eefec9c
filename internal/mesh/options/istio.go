// SPDX-License-Identifier: Apache-2.0

package options

import (
	"fmt"
	"slices"

	"github.com/weir-mesh/weir/internal/parse"
	"github.com/weir-mesh/weir/modes"
)

// Istio is what istio-init can be told that annotations tell too. What is empty, or a nil list, is left as
// it is; an empty list is none.
type Istio struct {
	TProxy                           bool
	IncludeInbound, ExcludeInbound   []modes.PortWord
	IncludeOutbound, ExcludeOutbound []modes.PortWord
	IncludeCIDRs, ExcludeCIDRs       []string
	ExcludeInterfaces, Reroute       []string
}

// IstioID is the proxy's user and group where none are told.
const IstioID = 1337

// IstioDefaults are what Istio's injector tells it.
func IstioDefaults() modes.Config {
	return modes.Config{
		Mode:     modes.ModeSidecar,
		Proxy:    modes.Proxy{UIDs: modes.IDs(IstioID), GIDs: modes.IDs(IstioID)},
		Inbound:  modes.Inbound{Via: "redirect", ExcludePorts: modes.Ports(15020)},
		Outbound: modes.Outbound{Via: "redirect", ExcludePorts: modes.Ports(15020)},
	}
}

// Over is a configuration with the options.
func (o Istio) Over(c modes.Config) (modes.Config, []Problem) {
	o.inbound(&c.Inbound)
	wrong := o.outbound(&c.Outbound)
	setList(&c.Interfaces.Exclude, o.ExcludeInterfaces)
	if o.Reroute != nil {
		c.Interfaces.Reroute = nil
		for _, name := range o.Reroute {
			c.Interfaces.Reroute = append(c.Interfaces.Reroute, modes.Rerouted{Name: name, Exclusions: "ignored"})
		}
	}
	return c, wrong
}

// inbound has excluded ports count only where all are included. With TPROXY, marks are set whatever the ports.
func (o Istio) inbound(in *modes.Inbound) {
	if o.TProxy {
		in.Via = "tproxy"
	}
	setList(&in.IncludePorts, o.IncludeInbound)
	setList(&in.ExcludePorts, o.ExcludeInbound)
	if in.IncludePorts != nil && len(in.IncludePorts) == 0 {
		in.IncludePorts = nil
		if in.Via == "tproxy" {
			in.Via = "marks"
		} else {
			in.Via = "none"
		}
	}
	if includesSome(in.IncludePorts) || in.Via == "none" || in.Via == "marks" {
		in.ExcludePorts = nil
	}
}

// outbound leaves out of the included ports what is excluded too: exclusion wins.
func (o Istio) outbound(out *modes.Outbound) (wrong []Problem) {
	setList(&out.IncludeCIDRs, o.IncludeCIDRs)
	setList(&out.ExcludeCIDRs, o.ExcludeCIDRs)
	setList(&out.IncludePorts, o.IncludeOutbound)
	setList(&out.ExcludePorts, o.ExcludeOutbound)
	if i := slices.Index(out.ExcludeCIDRs, "*"); i >= 0 {
		wrong = append(wrong, Problem{Option: ExcludeCIDRs, Text: fmt.Sprintf("%q excludes everything", "*")})
		out.ExcludeCIDRs = slices.Delete(slices.Clone(out.ExcludeCIDRs), i, i+1)
	}
	out.IncludePorts = parse.WithoutPorts(out.IncludePorts, out.ExcludePorts)
	if out.IncludeCIDRs != nil && len(out.IncludeCIDRs)+len(out.IncludePorts) == 0 {
		out.Via, out.IncludeCIDRs = "none", nil
	}
	return wrong
}
