// SPDX-License-Identifier: Apache-2.0

package modes

import (
	"fmt"
	"maps"
	"math"
	"net/netip"
	"slices"
	"strings"

	"github.com/weir-mesh/weir/internal/parse"
	"github.com/weir-mesh/weir/rules"
)

// ambientHost is the checked configuration of a node whose pods are in ambient
// mode: the kubelet's probes get a source address by which pods know them.
type ambientHost struct {
	table     string
	families  []rules.Family
	addresses map[rules.Family]netip.Addr

	own            rules.Match // the host's own connections
	uids           []rules.Range
	cgroups        map[uint8][]rules.Range // by level
	mark, markMask rules.Mark              // of packets from the cgroups
}

const (
	fromLocal   = "local"
	fromUIDs    = "uids"
	fromCgroups = "cgroups"
)

func (r *reader) ambientHost(c Config) *ambientHost {
	h := &ambientHost{table: c.Table, families: r.families(c.IPv6), addresses: map[rules.Family]netip.Addr{}, own: r.ownConnections()}
	for _, a := range r.probeAddresses(c.Probes.Addresses) {
		h.addresses[rules.AddressFamily(a)] = a
	}
	if empty(c.Probes.Addresses) {
		r.problem("probes.addresses", "", "is empty: probes would have no source (want one address of each family)")
	}
	for _, f := range h.families {
		if _, ok := h.addresses[f]; !ok {
			r.note("probes.addresses", "has none of %s: probes of that family go to the proxy", f)
		}
	}
	from := r.choice("probes.from", c.Probes.From)
	h.mark, h.markMask = r.mark("probes.mark", c.Probes.Mark, everyBit)
	h.uids = ids[rules.UID](r, "probes.uids", c.Probes.UIDs, r.env.Users, "user")
	h.cgroups = r.cgroups("probes.cgroups", c.Probes.Cgroups)
	r.onlyFrom(fromUIDs, from, "probes.uids", c.Probes.UIDs)
	r.onlyFrom(fromCgroups, from, "probes.cgroups", c.Probes.Cgroups)
	return h
}

// onlyFrom wants a list where probes are told by it, and only there.
func (r *reader) onlyFrom(word, from, key string, list []string) {
	switch {
	case from == word && empty(list):
		r.problem(key, "", "is empty, and %s wants it", Ref{"probes.from", word})
	case from != word && !empty(list):
		r.problem(key, "", "is used only with %s", Ref{"probes.from", word})
	}
}

// ownConnections match what this host opened. A forwarded packet has come in by
// an interface.
func (r *reader) ownConnections() rules.Match {
	if r.env.PostroutingInput {
		return rules.IIf.Is(0)
	}
	return rules.FibSaddr.Type().Is(rules.Local)
}

// cgroups reads paths below the root of cgroup v2, by how deep they are.
func (r *reader) cgroups(key string, words []string) map[uint8][]rules.Range {
	out := map[uint8][]rules.Range{}
	for _, w := range r.list(key, words) {
		path := parse.CgroupPath(w)
		level := strings.Count(path, "/") + 1
		known, ok := r.env.Cgroups[path]
		switch {
		case path == "" || level > math.MaxUint8:
			r.problem(key, w, "is not the path of a cgroup (want such as kubelet.slice/kubelet.service)")
		case ok:
			out[uint8(level)] = append(out[uint8(level)], rules.RangeOf(rules.CgroupID(known)))
		case !r.anyHost:
			r.problem(key, w, "is not a cgroup v2 here")
		}
	}
	return out
}

// state writes the ruleset.
func (h *ambientHost) state() rules.State {
	w := newWriter(h.table, h.families)
	// Of both families always: a host that has no IPv6 yet must not lose its pods.
	for _, f := range []rules.Family{rules.IPv4, rules.IPv6} {
		w.table.Sets = append(w.table.Sets, &rules.Set{Name: ProbeSet(f), Key: []rules.DataType{daddrKeys[f].Selector().Type()}, Live: true, Size: maxProbed})
	}
	if len(h.cgroups) > 0 {
		h.mangleOutput(w)
	}
	h.natPostrouting(w)
	return rules.State{Table: w.table}
}

// maxProbed is how many addresses of a family a probe set holds: more than a node
// has pods.
const maxProbed = 131_071

// ProbeSet is the name of the live set of addresses whose probes are told apart.
// The comment of an element is the UID of the pod that has the address.
func ProbeSet(f rules.Family) string { return f.SetName("probes") }

func probed(f rules.Family) rules.Match {
	return daddrKeys[f].InSet(rules.SetOf[netip.Prefix]{Name: ProbeSet(f)})
}

// mangleOutput marks what the cgroups open, since postrouting cannot tell cgroups.
func (h *ambientHost) mangleOutput(w *writer) {
	out := w.base("mangle_output", rules.FilterType, rules.Output, rules.PriorityMangle)
	for _, level := range slices.Sorted(maps.Keys(h.cgroups)) {
		key := rules.SocketCgroup(level)
		name := fmt.Sprintf("probe_cgroups_%d", level)
		for _, f := range h.families {
			if h.addresses[f].IsValid() {
				out.add("what a cgroup of the kubelet opens to a pod is marked",
					rules.L4Proto.Is(rules.TCP), probed(f), key.InSet(set(w, name, key, h.cgroups[level])), rules.MetaMark.SetMasked(h.mark, h.markMask))
			}
		}
	}
}

// natPostrouting gives probes their source, before other source NAT decides.
func (h *ambientHost) natPostrouting(w *writer) {
	out := w.base("postrouting", rules.NATType, rules.Postrouting, rules.PrioritySrcNAT-1)
	from := []rules.Node{h.own}
	switch {
	case len(h.uids) > 0: // a packet that is forwarded has no user
		from = []rules.Node{rules.SkUID.InSet(set(w, "probe_uids", rules.SkUID, h.uids))}
	case len(h.cgroups) > 0:
		from = append(from, rules.MetaMark.Masked(h.mark, h.markMask))
	}
	for _, f := range h.families {
		if !h.addresses[f].IsValid() {
			continue
		}
		out.add("the kubelet's probes come from an address that pods know",
			slices.Concat([]rules.Node{rules.L4Proto.Is(rules.TCP), probed(f)}, from, []rules.Node{rules.SNAT{To: h.addresses[f]}})...)
	}
}
