// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"net/netip"
	"slices"

	"github.com/weir-mesh/weir/rules"
)

// validateSource ends a packet whose way back is not by where it came, as strictly as the
// link wants it. A link without a filter looks all the same where the namespace has routing
// of its own, or where the packet would leave by the link that it came by
// (fib_validate_source, __fib_validate_source). Of a packet that is passed on the way back is
// looked up as if it came by where the packet leaves.
func (w *walk) validateSource(src netip.Addr) {
	l := w.host.link(w.in)
	f := flow{src: w.packet.Dst.Addr(), dst: src, in: loopback}
	onward := w.path.Type == rules.Unicast
	switch {
	case l == nil || onward && !w.host.forwards(w.in, rules.IPv4):
		return
	case onward:
		f.in = w.path.Out
	}
	if l.ReversePath == AnyPath && !w.host.hasCustomRouting() && w.path.Out != w.in {
		return
	}
	by := ""
	if l.SourceMark {
		f.mark, by = w.packet.Mark, " by its mark"
	}
	back, found := w.host.lookup(f)
	none := !found || back.Type == blackhole || back.Type == unreachable || back.Type == prohibit
	_, addressed := l.first(rules.IPv4)
	switch {
	case back.Unsupported != "":
		w.end(Unknown, "%s", back.Unsupported)
	case none:
		if l.ReversePath != AnyPath {
			w.end(LostInRouting, "no route leads back to %s%s (rp_filter)", src, by)
		}
	case back.Type != rules.Unicast && !(back.Type == rules.Local && l.AcceptLocal):
		w.end(LostInRouting, "the route back to %s%s is %s (a martian; src_valid_mark, rp_filter)", src, by, typeName(back.Type))
	case back.Out != w.in && l.ReversePath != AnyPath && (l.ReversePath == StrictPath || !addressed):
		w.end(LostInRouting, "the route back to %s%s is not by %s (rp_filter)", src, by, w.in)
	}
}

// hasCustomRouting reports whether a table other than local delivers IPv4 packets here
// (fib4_has_custom_local_routes), or there is a policy rule that the kernel did not make
// (fib4_has_custom_rules).
func (h *Host) hasCustomRouting() bool {
	return slices.ContainsFunc(h.Routes, func(p Route) bool {
		return p.Type == rules.Local && p.Table != rules.LocalTable && p.Dst.Addr().Is4()
	}) || slices.ContainsFunc(h.PolicyRules, func(l PolicyRule) bool {
		return l.Family == rules.IPv4 && !l.FromKernel()
	})
}
