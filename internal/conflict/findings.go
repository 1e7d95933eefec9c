// SPDX-License-Identifier: Apache-2.0

package conflict

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/weir-mesh/weir/internal/escape"
	"github.com/weir-mesh/weir/sim"
)

// finding is what a foreign chain does to one packet.
type finding struct {
	Conflict
	at   sim.Step // of the foreign table, that decided
	tied bool     // it hangs on which chain was made last
}

// findings are joined by chain and kind.
type findings map[string]*joined

type joined struct {
	finding
	traffic traffic
}

func (all findings) add(f finding, c class) {
	key := fmt.Sprint(f.Kind, f.at.Hook, f.at.Chain, f.tied)
	k := all[key]
	if k == nil {
		k = &joined{finding: f}
		all[key] = k
	}
	k.traffic.add(c)
	k.May = k.May && f.May
}

func (all findings) conflicts(t Table) (out []Conflict) {
	for _, k := range all {
		c := k.Conflict
		c.Traffic = k.traffic.words()
		if k.tied {
			c.Kind = SamePriority
		}
		base, devices := baseOf(t, k.at)
		c.Subject = fmt.Sprintf("chain %s of table %s (%s %s %d%s)", escape.Text(base), t.Title(), k.at.Type, k.at.Hook, k.at.Priority, devices)
		c.Owner = t.Owner
		c.Does = does(c, k)
		c.Remedy = remedyOf(c, t, k.at.Priority)
		out = append(out, c)
	}
	slices.SortFunc(out, func(a, b Conflict) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.Subject, b.Subject))
	})
	return out
}

// baseOf is the base chain that leads to a step's chain, and the devices that it is of.
func baseOf(t Table, s sim.Step) (name, devices string) {
	for _, c := range t.Chains {
		if b := c.Base; b != nil && b.Hook == s.Hook && b.Priority == s.Priority && b.Type == s.Type {
			for _, d := range b.Devices {
				devices += ", device " + escape.Text(d)
			}
			return c.Name, devices
		}
	}
	return s.Chain, ""
}

func does(c Conflict, k *joined) string {
	traffic := list(c.Traffic)
	how := map[Kind]string{
		Drops:        "drops " + traffic,
		Redirects:    "sends " + traffic + " elsewhere than to the proxy",
		Bypasses:     "lets " + traffic + " go past the proxy",
		ChangesMarks: "changes marks of " + traffic + ", which the rules go by",
		Untracks:     "keeps conntrack from " + traffic + ": it is not captured",
		SamePriority: "has the priority of a chain of weir's, the one that was made last runs first, and it decides about " + traffic,
	}[c.Kind]
	if c.May && c.Kind != SamePriority {
		how = "may do this (it holds what weir cannot evaluate): it " + how
	}
	rule := "policy"
	if k.at.Rule > 0 {
		rule = fmt.Sprintf("rule %d", k.at.Rule)
		if k.at.Chain != "" {
			rule += " of chain " + escape.Text(k.at.Chain)
		}
	}
	return fmt.Sprintf("%s (%s; such as %s)", how, rule, packetText(*c.Example))
}

func remedyOf(c Conflict, t Table, priority int32) string {
	table := "nft list table " + t.Title()
	whose := "its owner"
	if c.Owner != "" {
		whose = c.Owner
	}
	switch c.Kind {
	case SamePriority:
		return fmt.Sprintf("have %s use a higher priority number than %d, or make its chain before weir applies; %s shows it", whose, priority, table)
	case Drops:
		return fmt.Sprintf("allow it there, or remove the rule by %s; %s shows it", whose, table)
	case ChangesMarks:
		return fmt.Sprintf("have %s change only bits that weir's mask leaves (key routing.mask), or after weir; %s shows it", whose, table)
	}
	return fmt.Sprintf("remove it by %s, or have it come after weir's chains; %s shows it", whose, table)
}
