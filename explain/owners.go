// SPDX-License-Identifier: Apache-2.0

//go:build linux

package explain

import (
	"slices"
	"strings"

	"github.com/weir-mesh/weir/rules"
	"github.com/weir-mesh/weir/sim"
)

// ownerClass is a user or group that rules ask for, or one that none does.
type ownerClass struct {
	text string
	uid  rules.UID
	gid  rules.GID
}

const maxOwners = 64 // users and groups that are told apart

// ByOwner says what becomes of a packet that this host sends, for each class of owners
// that the rules treat differently: of a packet whose owner is not given. Where all are
// treated alike there is one answer.
func (x *Explainer) ByOwner(p sim.Packet) []Answer {
	if p.Socket == nil {
		return []Answer{x.Explain(p)}
	}
	var out []Answer
	var who [][]string
	for _, o := range x.owners() {
		socket := *p.Socket
		socket.UID, socket.GID = o.uid, o.gid
		q := p
		q.Socket = &socket
		a := x.Explain(q)
		i := slices.IndexFunc(out, func(b Answer) bool { return alike(a, b) })
		if i < 0 {
			i, out, who = len(out), append(out, a), append(who, nil)
		}
		who[i] = append(who[i], o.text)
	}
	for i := range out {
		out[i].Owner = strings.Join(who[i], " or ")
		if len(out) == 1 {
			out[i].Owner = "any user"
		}
	}
	return out
}

// alike reports whether packets end alike, by the same rule.
func alike(a, b Answer) bool {
	f, g := a.Fate, b.Fate
	return f.Kind == g.Kind && f.Port == g.Port && f.Dst == g.Dst && f.Out == g.Out && f.Here == g.Here && f.Why == g.Why && a.Decided == b.Decided
}

// owners are the classes of owners: any user that no rule names, then each user and group
// that rules name.
func (x *Explainer) owners() []ownerClass {
	uids, gids := x.tested(rules.SkUID.Selector()), x.tested(rules.SkGID.Selector())
	other := ownerClass{"any other user", rules.UID(unnamed(uids)), rules.GID(unnamed(gids))}
	out := []ownerClass{other}
	for _, r := range uids {
		out = append(out, ownerClass{"uid " + rules.SkUID.Type().FormatRange(r), rules.UID(r.Lo.Uint64()), other.gid})
	}
	for _, r := range gids {
		out = append(out, ownerClass{"gid " + rules.SkUID.Type().FormatRange(r), other.uid, rules.GID(r.Lo.Uint64())})
	}
	return out[:min(len(out), maxOwners)]
}

// tested are the values that rules ask of a selector, each once.
func (x *Explainer) tested(s rules.Selector) (out []rules.Range) {
	for _, t := range x.tables {
		for _, c := range t.Chains {
			for _, r := range c.Rules {
				for _, n := range r.Nodes {
					m, is := n.(rules.Match)
					at := -1
					if is {
						at = slices.Index(m.Key, s)
					}
					if at < 0 {
						continue
					}
					elements := m.Elements
					if set := t.Set(m.Set); m.Set != "" && set != nil {
						elements = set.Elements
					}
					for _, e := range elements {
						if at < len(e.Key) && !slices.Contains(out, e.Key[at]) {
							out = append(out, e.Key[at])
						}
					}
				}
			}
		}
	}
	return out
}

// unnamed is an id that none of the ranges holds: that of an ordinary user if it can be.
func unnamed(ranges []rules.Range) uint32 {
	for id := uint32(1000); ; id++ {
		b := rules.RangeOf(rules.UID(id)).Lo
		i := slices.IndexFunc(ranges, func(r rules.Range) bool { return r.Lo <= b && b <= r.Hi })
		if i < 0 {
			return id
		}
		if hi := uint32(ranges[i].Hi.Uint64()); hi < ^uint32(0) {
			id = hi // the next is tried
		} else {
			return 0
		}
	}
}
