// SPDX-License-Identifier: Apache-2.0

package modes

import (
	"slices"
	"strings"

	"github.com/weir-mesh/weir/internal/parse"
	"github.com/weir-mesh/weir/rules"
)

// PolicyRule is a rule of the namespace's routing policy database, as far as the place
// of weir's own depends on it.
type PolicyRule struct {
	Family   rules.Family
	Priority uint32
	Mark     rules.Mark
	Mask     rules.Mark // 0: packets of every mark
	Narrow   bool       // it asks for more than a mark: an address, an interface, a user
	Not      bool       // it catches what it does not say
	Table    uint32     // that it looks up; 0: it does something else
	Own      bool       // weir added it: it has weir's protocol number
	Text     string     // as ip-rule(8) lists it
}

// lastPlace is that of the policy rule where nothing of others is in its way: before the
// rule for the main table, whose default route would catch every packet (FIB rules of
// net/ipv4/fib_rules.c).
const lastPlace = mainPriority - 1

const (
	mainPriority = 32766
	autoPriority = "auto"
)

// priority reads where the policy rule for the mark stands. Before it there is room for
// two more of weir's.
func (r *reader) priority(word string, g routing) uint32 {
	const key = "routing.priority"
	if !strings.EqualFold(word, autoPriority) {
		n, ok := parse.Number(word, 32, true)
		if !ok || n < 1 || n > lastPlace {
			r.problem(key, word, "is neither auto nor a whole number from 1 to %d", lastPlace)
		}
		return uint32(n)
	}
	last := uint32(lastPlace)
	if r.mode == ModeAmbientPod {
		last-- // the reference's
	}
	if g.table == 0 {
		return last
	}
	place, first, found := g.place(r.env.PolicyRules, last)
	switch {
	case !found:
		r.note(key, "no place is free before the policy rule of others at %d (%s), which may catch packets with %s first", first.Priority, first.Text, Ref{Key: "routing.mark"})
	case first.Priority <= last && place < last:
		r.note(key, "auto was taken as %d: the policy rule of others at %d (%s) may catch packets with %s", place, first.Priority, first.Text, Ref{Key: "routing.mark"})
	}
	return place
}

// place is the priority at which no rule of others catches what has the mark before weir's:
// where weir's stands already, if that is such a place, else as high as there is one. first
// is the rule of others that comes before all others, if one is in the way of last; found
// is false where it leaves no place before it.
func (g routing) place(all []PolicyRule, last uint32) (place uint32, first PolicyRule, found bool) {
	first = PolicyRule{Priority: mainPriority}
	for _, l := range all {
		if g.concerns(l) && g.caught(l) && l.Priority < first.Priority {
			first = l
		}
	}
	switch at, stands := g.standing(all); {
	case stands && g.keeps(all, at):
		return at, first, true
	case first.Priority > last:
		return last, first, true
	case first.Priority == 0:
		return 0, first, false
	}
	return first.Priority - 1, first, true
}

func (g routing) concerns(l PolicyRule) bool { return slices.Contains(g.families, l.Family) }

// standing is the one priority at which weir's rule stands.
func (g routing) standing(all []PolicyRule) (at uint32, stands bool) {
	for _, l := range all {
		switch {
		case !g.concerns(l) || !g.is(l):
		case stands && l.Priority != at:
			return 0, false
		default:
			at, stands = l.Priority, true
		}
	}
	return at, stands
}

// keeps reports whether no rule of others comes before weir's at that priority. Of one
// priority the kernel asks what was added first, and lists it first.
func (g routing) keeps(all []PolicyRule, at uint32) bool {
	met := map[rules.Family]bool{}
	for _, l := range all {
		met[l.Family] = met[l.Family] || g.is(l)
		if g.concerns(l) && g.caught(l) && (l.Priority < at || l.Priority == at && !met[l.Family]) {
			return false
		}
	}
	return true
}

// is reports whether the rule is weir's, wherever it stands.
func (g routing) is(l PolicyRule) bool {
	return l.Own && !l.Not && l.Mark == g.mark && l.Mask == g.mask && l.Table == g.table
}

// caught reports whether the rule may catch a packet with the mark, and have it go
// elsewhere: the local table and our own deliver it here.
func (g routing) caught(l PolicyRule) bool {
	if l.Own || !l.Not && (l.Table == rules.LocalTable || l.Table == g.table && g.table != 0) {
		return false
	}
	if l.Not {
		always := !l.Narrow && l.Mask&^g.mask == 0 && (l.Mark^g.mark)&l.Mask == 0
		return !always
	}
	return (l.Mark^g.mark)&l.Mask&g.mask == 0
}

// AsStanding is the environment in which weir's policy rule stays where it stands: what
// came before it since is in its way, and no reason to want it elsewhere.
func (e Environment) AsStanding() Environment {
	if own := slices.DeleteFunc(slices.Clone(e.PolicyRules), func(l PolicyRule) bool { return !l.Own }); len(own) > 0 {
		e.PolicyRules = own
	}
	return e
}
