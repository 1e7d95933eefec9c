// SPDX-License-Identifier: Apache-2.0

//go:build linux

package capture

import (
	"encoding/json"

	"github.com/weir-mesh/weir/rules"
)

// MarshalJSON writes what an apply or a remove did: the outcome, the table, the hashes
// of the state and of the previous one, what changed, what stands
// in the way of captured traffic, how many connections were kept or reset, and how many seconds it took
// to read, to commit and to verify. Notices are not part of it.
func (r Report) MarshalJSON() ([]byte, error) {
	v := struct {
		Outcome   string             `json:"outcome"`
		Table     string             `json:"table"`
		State     string             `json:"state,omitempty"`
		Previous  string             `json:"previous,omitempty"`
		Changes   []rules.Difference `json:"changes,omitempty"`
		Conflicts []Conflict         `json:"conflicts,omitempty"`
		Kept      int                `json:"kept,omitempty"`
		Reset     int                `json:"reset,omitempty"`
		Seconds   map[string]float64 `json:"seconds"`
	}{
		Outcome: string(r.Outcome), Table: r.Table, State: r.State, Changes: r.Differences, Kept: r.Kept, Reset: r.Reset, Conflicts: r.Conflicts,
		Seconds: map[string]float64{"read": r.Read.Seconds(), "commit": r.Commit.Seconds(), "verify": r.Verify.Seconds()},
	}
	if r.Previous != nil {
		v.Previous = r.Previous.String()
	}
	return json.Marshal(v)
}

// MarshalJSON writes the table, whether it is clean, the differences and the conflicts.
// Notices are not part of it.
func (v Verdict) MarshalJSON() ([]byte, error) {
	return json.Marshal(map[string]any{"table": v.Table, "clean": v.Clean(), "differences": append([]rules.Difference{}, v.Differences...),
		"conflicts": append([]Conflict{}, v.Conflicts...)})
}

// MarshalJSON writes the table, the script, the routing, the differences, and the texts
// of what is wrong: why an apply would refuse, why nothing was compared. Notices are not
// part of it.
func (p Plan) MarshalJSON() ([]byte, error) {
	v := map[string]any{
		"table": p.Table, "ruleset": p.Script(), "routing": append([]string{}, p.State.Normal().Routing()...),
		"differences": append([]rules.Difference{}, p.Differences...),
	}
	if p.Uncompared != nil {
		v["notCompared"] = p.Uncompared.Error()
	}
	if p.Refusal != nil {
		v["refused"] = p.Refusal.Error()
	}
	return json.Marshal(v)
}
