// SPDX-License-Identifier: Apache-2.0

//go:build linux

package diagnose

import (
	"fmt"
	"strings"

	"github.com/weir-mesh/weir/internal/conflict"
	"github.com/weir-mesh/weir/internal/escape"
)

// What is judged here: tables and rules of other engines, and what weir left.

func leftoverChecks(f Facts) []Check {
	if f.readErr != nil {
		return []Check{{"other engines", Skipped, "the rules were not read", ""}}
	}
	var out []Check
	for _, e := range f.sight.Engines {
		out = append(out, f.engineCheck(e))
	}
	switch {
	case f.blind != nil:
		out = append(out, Check{"other engines", Skipped, fmt.Sprintf("they were not looked for: %v", f.blind), ""})
	case f.sight.NoLegacy != nil:
		out = append(out, Check{"other engines", Skipped, fmt.Sprintf("iptables-legacy's tables were not read: %v", WithPermit(withAdvice(f.sight.NoLegacy))), ""})
	}
	if len(out) == 0 {
		out = append(out, Check{"other engines", Passed, "no rules of theirs: nftables, iptables-nft, iptables-legacy, policy rules", ""})
	}
	remedy := "weir apply or weir remove takes them away"
	if f.inTheWay != nil {
		out = append(out, Check{"tables in the way", Failed, f.inTheWay.Error(), "give them up, or have weir's table by another name (key table)"})
		remedy = "what is in the way first; then " + remedy
	}
	if len(f.leftovers) == 0 {
		return append(out, Check{"left-overs", Passed, "none of an apply that was cut short", ""})
	}
	var lines []string
	for _, d := range f.leftovers {
		lines = append(lines, d.String())
	}
	return append(out, Check{"left-overs", Failed, strings.Join(lines, "\n"), remedy})
}

// engineCheck judges another engine. One that captures alone is not a failure: the namespace
// is its.
func (f Facts) engineCheck(e conflict.Engine) Check {
	if e.Rules && f.state.Table == nil && len(f.sight.Engines) == 1 {
		return Check{"other engines", Noted, "captured by " + e.Name + ": " + strings.Join(e.Signs, "; "), ""}
	}
	return Check{"other engines", Failed, e.Name + " has rules here: " + strings.Join(e.Signs, "; "),
		"take them out by " + e.Name + "'s own clean-up, or delete the pod: two engines capture each other's traffic"}
}

// dormantChecks tell of a table that looks right and captures nothing.
func dormantChecks(f Facts) []Check {
	if !f.dormant {
		return nil
	}
	return []Check{{"dormant table", Failed, fmt.Sprintf("table inet %s has the flag dormant: the kernel calls none of its chains, nothing is captured", escape.Text(f.table)),
		"weir apply puts it in force again"}}
}
