// SPDX-License-Identifier: Apache-2.0

//go:build linux

package diagnose

import (
	"slices"

	"github.com/weir-mesh/weir/internal/conflict"
)

// conflictChecks judge what stands in the way of traffic that the rules capture. What has
// a check of its own is not told twice; what may be in the way is a note.
func conflictChecks(f Facts) []Check {
	const name = "captured traffic"
	switch {
	case f.readErr != nil || f.state.Table == nil || f.state.Table.Dormant:
		return nil
	case f.blind != nil:
		return []Check{{name, Skipped, f.blind.Error(), ""}}
	}
	var out []Check
	for _, c := range conflict.Conflicts(f.state, f.sight.Seen) {
		if slices.Contains([]conflict.Kind{conflict.LoopbackDown, conflict.OtherEngine}, c.Kind) {
			continue
		}
		status := Failed
		if c.May || c.Kind == conflict.NoListener && !f.live { // the proxy may start after the apply
			status = Noted
		}
		out = append(out, Check{name, status, c.String(), c.Remedy})
	}
	for _, err := range f.sight.Unseen {
		out = append(out, Check{name, Skipped, err.Error(), ""})
	}
	if len(out) == 0 {
		out = append(out, Check{name, Passed, "nothing stands in its way: chains, policy rules, routes, settings, listeners", ""})
	}
	return out
}
