package main

import (
	"github.com/weir-mesh/weir/nft"
	"github.com/weir-mesh/weir/rules"
)

// rival is a base chain of another's that sees new connections where ours do,
// and may decide first.
type rival struct {
	nft.ForeignChain
	when string // it sees them, as against ours
}

// rivals are those beside what an apply found and made. Of chains with one
// priority the kernel calls the one that was registered last first
// (nf_hook_entries_grow of net/netfilter/core.c).
func rivals(want rules.State, r nft.Result) []rival {
	equal := "has the priority of ours: the chain that was made last runs first"
	if r.Outcome == nft.Created || r.Outcome == nft.Replaced {
		equal += ", now ours"
	}
	var out []rival
	for _, f := range r.Foreign {
		switch ours, beside := highestBeside(want.Table, f.Base); {
		case !beside || f.Base.Priority > ours:
		case f.Base.Priority == ours:
			out = append(out, rival{f, equal})
		default:
			out = append(out, rival{f, "runs before ours and may decide first"})
		}
	}
	return out
}

// highestBeside is the highest priority number of our nat chains on the hook of
// another's.
func highestBeside(t *rules.Table, other rules.Base) (priority int32, beside bool) {
	if t == nil || other.Type != rules.NATType {
		return 0, false
	}
	for _, c := range t.Chains {
		if b := c.Base; b != nil && b.Type == other.Type && b.Hook == other.Hook && (!beside || b.Priority > priority) {
			priority, beside = b.Priority, true
		}
	}
	return priority, beside
}
