// SPDX-License-Identifier: Apache-2.0

package modes

import (
	"cmp"
	"slices"

	"github.com/weir-mesh/weir/rules"
)

// Excluded is outbound traffic that is left alone: that of the users, over the
// protocol, to the ports, where each of them is written. The first key is the users.
type Excluded struct {
	UIDs     []string   `key:"uids" doc:"users: ids, ranges or names; without the key all"`
	Protocol string     `key:"protocol" default:"all" words:"all | tcp | udp"`
	Ports    []PortWord `key:"ports" doc:"ports, ranges and services; without the key all"`
}

// excluded is a checked [Excluded].
type excluded struct {
	uids, ports []rules.Range // none: all
	tcp, udp    bool
}

const everyProtocol = "all"

func (r *reader) excluded(list []Excluded) []excluded {
	const key = "outbound.exclude"
	var out []excluded
	for _, l := range list {
		protocol := r.choice(key+".protocol", cmp.Or(l.Protocol, everyProtocol))
		uids, ports := l.UIDs, l.Ports
		if everything(uids) {
			uids = nil
		}
		if everything(ports) {
			ports = nil
		}
		if nothing(uids) { // the list's own none
			continue
		}
		if len(uids) == 0 && len(ports) == 0 {
			r.problem(key, "", "has an entry without uids and ports: it would leave everything alone (want %s for that)", Ref{"outbound.via", viaNone})
			continue
		}
		out = append(out, excluded{
			uids:  sorted(ids[rules.UID](r, key+".uids", uids, r.env.Users, "user")),
			ports: sorted(r.ports(key+".ports", ports)),
			tcp:   protocol != "udp", udp: protocol != "tcp",
		})
	}
	slices.SortFunc(out, excluded.compare) // all are left alone: their order says nothing
	return out
}

func (x excluded) compare(y excluded) int {
	no := map[bool]int{false: 1}
	return cmp.Or(slices.CompareFunc(x.uids, y.uids, compareRanges), slices.CompareFunc(x.ports, y.ports, compareRanges),
		cmp.Compare(no[x.tcp], no[y.tcp]), cmp.Compare(no[x.udp], no[y.udp]))
}

// of reports whether it is about a protocol: TCP, or else UDP.
func (x excluded) of(tcp bool) bool { return tcp && x.tcp || !tcp && x.udp }

// owner matches the users, where there are any.
func (x excluded) owner() []rules.Node {
	if len(x.uids) == 0 {
		return nil
	}
	return []rules.Node{rules.SkUID.Within(x.uids...)}
}

const excludedTraffic = "excluded traffic of a user, a protocol or a port is left alone"

// excluded leaves alone what the list says of a protocol.
func (c *chainWriter) excluded(list []excluded, tcp bool) {
	port, protocol := rules.UDPDport, rules.UDP
	if tcp {
		port, protocol = rules.TCPDport, rules.TCP
	}
	for _, x := range list {
		if !x.of(tcp) {
			continue
		}
		nodes := []rules.Node{rules.L4Proto.Is(protocol)}
		if len(x.ports) > 0 {
			nodes = []rules.Node{port.Within(x.ports...)}
		}
		c.add(excludedTraffic, append(append(nodes, x.owner()...), rules.Return())...)
	}
}

// ofAnyone are those that name no user: packets of a virtual machine have none.
func ofAnyone(list []excluded) []excluded {
	return slices.DeleteFunc(slices.Clone(list), func(x excluded) bool { return len(x.uids) > 0 })
}

// excludesTCP reports whether a user's TCP to a port is left alone.
func excludesTCP(list []excluded, by rules.UID, to rules.Port) bool {
	return slices.ContainsFunc(list, func(x excluded) bool {
		return x.tcp && (len(x.uids) == 0 || holds(x.uids, by)) && (len(x.ports) == 0 || holds(x.ports, to))
	})
}

// queriesOf are those that hold queries over UDP.
func queriesOf(list []excluded) []excluded {
	return slices.DeleteFunc(slices.Clone(list), func(x excluded) bool {
		return !x.udp || len(x.ports) > 0 && !holds(x.ports, dnsPort)
	})
}
