//go:build linux

package capture

import (
	"github.com/weir-mesh/weir/nft"
	"github.com/weir-mesh/weir/rules"
)

// Conflict is a base chain of another program that sees new connections where the
// table's own chains do, and may decide first.
type Conflict struct {
	nft.ForeignChain
	Order string // when it runs, as against the table's: to be read after the chain's name
}

func (c Conflict) String() string { return c.ForeignChain.String() + " " + c.Order }

// conflicts are those with what an apply found and made. Of chains with one
// priority the kernel calls the one that was registered last first
// (nf_hook_entries_grow of net/netfilter/core.c).
func conflicts(want rules.State, r nft.Result) []Conflict {
	equal := "has the priority of ours: the chain that was made last runs first"
	if r.Outcome == nft.Created || r.Outcome == nft.Replaced {
		equal += ", now ours"
	}
	var out []Conflict
	for _, f := range r.Foreign {
		switch ours, beside := highestBeside(want.Table, f.Base); {
		case !beside || f.Base.Priority > ours:
		case f.Base.Priority == ours:
			out = append(out, Conflict{f, equal})
		default:
			out = append(out, Conflict{f, "runs before ours and may decide first"})
		}
	}
	return out
}

// highestBeside is the highest priority number of the table's nat chains on the hook
// of another program's.
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
