// SPDX-License-Identifier: Apache-2.0

//go:build linux

package istio

import (
	"fmt"
	"slices"

	"github.com/weir-mesh/weir/internal/mesh/options"
)

// Remarks say what the arguments mean where that may surprise: what the reference ignores without a
// word, and values that do not parse.
func (a *Arguments) Remarks() []string {
	out := slices.Clone(a.unread)
	remark := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	if !slices.Contains([]string{"", "REDIRECT", "TPROXY"}, a.mode) {
		remark("the interception mode %q acts as REDIRECT, as in the reference; weir remove turns capture off", a.mode)
	}
	if a.inboundExclude != "" && a.inboundPorts != "*" {
		remark("istio-local-exclude-ports counts only with istio-inbound-ports '*': %s is ignored, as in the reference", a.inboundExclude)
	}
	a.remarkWords(remark)
	if kernelTables[a.tproxyTable] == "none" && a.mode == "TPROXY" {
		remark("istio-inbound-tproxy-route-table %s is one of the kernel's own: packets with the mark are routed as others are, as in the reference", a.tproxyTable)
	}
	groups, everyGroup := a.includedGroups()
	if !everyGroup && len(options.Split(groups)) == 0 {
		remark("%s is empty: outbound traffic of no group is captured, as in the reference (unset it, or set it to '*', for all groups)", ownerGroups)
	}
	if exclude := a.variable(ownerGroupsExclude); exclude != "" && !everyGroup {
		remark("%s counts only while all groups are captured: %s is ignored, as in the reference, since %s is set", ownerGroupsExclude, exclude, ownerGroups)
	}
	for _, name := range []string{"envoy-port", "inbound-capture-port", "inbound-tunnel-port"} {
		if f := a.flags.Lookup(name); f.Value.String() == "" {
			remark("%s is empty: its default, %s, is used", name, f.DefValue)
		}
	}
	if a.captureAllDNS && !a.redirectDNS {
		remark("capture-all-dns counts only with redirect-dns, as in the reference")
	}
	return out
}

// remarkWords are about words of lists that match no packet.
func (a *Arguments) remarkWords(remark func(format string, args ...any)) {
	for _, name := range []string{"istio-exclude-interfaces", "kube-virt-interfaces"} {
		for _, w := range options.Split(a.flags.Lookup(name).Value.String()) {
			if hasAsterisk(w) {
				remark("%s: %q names no interface, as in the reference (the wildcard is eth+)", name, w)
			}
		}
	}
	for _, name := range []string{"istio-service-cidr", "istio-service-exclude-cidr"} {
		for _, w := range options.Split(a.flags.Lookup(name).Value.String()) {
			if isMapped(w) {
				remark("%s: no packet has an address of %s, which is IPv4-mapped, as in the reference (write it as IPv4)", name, w)
			}
		}
	}
}
