// SPDX-License-Identifier: Apache-2.0

package modes

import (
	"cmp"
	"slices"

	"github.com/weir-mesh/weir/rules"
)

// rerouted are virtual interfaces whose inbound traffic is treated as outbound.
type rerouted struct {
	honouring []rules.IfName // what is excluded of outbound
	ignoring  []rules.IfName // it, as istio-init does
	links     []link         // of which more is said, each with a chain of its own
}

const (
	exclusionsHonoured = "honoured"
	exclusionsIgnored  = "ignored"
)

func (r *reader) rerouted(list []Rerouted) (out rerouted) {
	const key = "interfaces.reroute"
	found := r.interfaces(key, namesOf(list))
	ignored := map[rules.IfName]bool{}
	for i, l := range list {
		ignores := r.choice(key+".exclusions", cmp.Or(l.Exclusions, exclusionsHonoured)) == exclusionsIgnored
		if len(found) != len(list) {
			continue // none, or there was a problem
		}
		name := found[i]
		if before, twice := ignored[name]; twice && before != ignores {
			r.problem(key, l.Name, "is listed twice, with other exclusions")
		}
		ignored[name] = ignores
		if more := r.link(l, name, ignores); more != nil {
			out.links = append(out.links, *more)
			continue
		}
		if ignores {
			out.ignoring = append(out.ignoring, name)
		} else {
			out.honouring = append(out.honouring, name)
		}
	}
	slices.SortStableFunc(out.links, link.compare)
	return out
}

func namesOf(list []Rerouted) []string {
	names := make([]string, len(list))
	for i, l := range list {
		names[i] = l.Name
	}
	return names
}

func (n rerouted) any() bool { return len(n.ignoring)+len(n.honouring)+len(n.links) > 0 }

// rules writes the rules for each, a name's before a wildcard's that may cover it,
// and those for all interfaces last.
func (n rerouted) rules(in *chainWriter, ignoring, honouring func(from []rules.Node)) {
	for _, narrow := range []func(rules.IfName) bool{isWholeName, isWildcard, everyInterface} {
		others := func(name rules.IfName) bool { return !narrow(name) }
		for _, from := range in.interfaceSet("reroute_ignoring", rules.IIfName, slices.DeleteFunc(slices.Clone(n.ignoring), others)) {
			ignoring(from)
		}
		for _, from := range in.interfaceSet("reroute_interfaces", rules.IIfName, slices.DeleteFunc(slices.Clone(n.honouring), others)) {
			honouring(from)
		}
	}
}
