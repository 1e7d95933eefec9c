// SPDX-License-Identifier: Apache-2.0

//go:build linux

package explain

import (
	"fmt"

	"github.com/weir-mesh/weir/internal/escape"
	"github.com/weir-mesh/weir/rules"
	"github.com/weir-mesh/weir/sim"
)

// TableTitle is the family and name of the table of a rule's step, escaped.
func TableTitle(s sim.Step) string {
	if s.Netdev {
		return "netdev " + escape.Text(s.Table)
	}
	family := map[rules.Family]string{0: "inet", rules.IPv4: "ip", rules.IPv6: "ip6"}[s.Family]
	return family + " " + escape.Text(s.Table)
}

// StepPlace says where a step stands: its table, its chain and its rule.
func StepPlace(s sim.Step) string {
	text := fmt.Sprintf("table %s, chain %s, ", TableTitle(s), escape.Text(s.Chain))
	if s.Rule == 0 {
		return text + "policy"
	}
	text += fmt.Sprintf("rule %d", s.Rule)
	if s.Reason != "" {
		text += fmt.Sprintf(" %q", escape.Text(s.Reason))
	}
	return text
}

// decide says which step decided, and whether it is another program's that took the
// packet.
func (x *Explainer) decide(a *Answer) {
	at := a.Decision()
	if at.Chain == "" {
		return
	}
	a.Decided = StepPlace(at)
	owner, foreign := x.foreign[TableTitle(at)]
	if foreign && owner != "" {
		a.Decided += " (" + owner + ")"
	}
	a.Taken = foreign && (a.Fate.Kind == sim.Redirected || a.Fate.Kind == sim.Proxied)
}
