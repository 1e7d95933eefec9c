package rules

import (
	"fmt"
	"slices"
	"strings"

	"github.com/weir-mesh/weir/internal/escape"
)

// Difference is one thing that is not as it should be. Want is empty where
// there should be nothing, Have where there is nothing.
type Difference struct {
	Where string `json:"where"`
	Want  string `json:"want,omitempty"`
	Have  string `json:"have,omitempty"`
}

// String is a paragraph: where, then both sides.
func (d Difference) String() string {
	switch {
	case d.Want == "":
		return d.Where + " should not be there\n  have  " + d.Have
	case d.Have == "":
		return d.Where + " is missing\n  want  " + d.Want
	}
	return d.Where + " differs\n  want  " + d.Want + "\n  have  " + d.Have
}

// Compare lists what have does not say as want says it, in the order in which a
// reader of want would meet it. Both are compared in their normal forms.
// Elements of live sets do not count, nor do counts, nor the order in which
// chains and sets are declared. It is empty where the two are [State.Equal].
func (want State) Compare(have State) []Difference {
	return want.Normal().ChangesFrom(have.Normal()).Differences
}

// Equal reports whether the two states say the same.
func (want State) Equal(have State) bool { return len(want.Compare(have)) == 0 }

// Contrasts are the changes that make one state into another.
type Changes struct {
	Differences  []Difference
	Elements     []SetChange // of declared sets that both tables have
	ElementsOnly bool        // both have a table, and nothing else of the tables differs
}

// ChangesFrom are the changes that make have into want. Both are in normal form.
func (want State) ChangesFrom(have State) Changes {
	var d differences
	d.tables(want.Table, have.Table)
	elementsOnly := want.Table != nil && have.Table != nil && !d.beside
	d.lists("policy rule", texts(want.PolicyRules), texts(have.PolicyRules))
	d.lists("route", texts(want.Routes), texts(have.Routes))
	d.lists("address", mapped(want.Addresses, AddressText), mapped(have.Addresses, AddressText))
	return Changes{d.list, d.elements, elementsOnly}
}

func texts[T fmt.Stringer](in []T) []string {
	return mapped(in, func(v T) string { return v.String() })
}

type differences struct {
	list     []Difference
	elements []SetChange
	beside   bool // something else than elements differs
}

func (d *differences) add(where, want, have string) {
	want, have = excerpts(want, have)
	d.list = append(d.list, Difference{where, want, have})
	d.beside = true
}

const maxText = 2000 // bytes of one side of a difference

// excerpts cuts two long texts to where they begin to differ.
func excerpts(a, b string) (string, string) {
	common := 0
	for common < min(len(a), len(b)) && a[common] == b[common] {
		common++
	}
	excerpt := func(s string) string {
		if len(s) <= maxText {
			return s
		}
		lo := max(min(common, len(s))-maxText/2, 0)
		hi := min(lo+maxText, len(s))
		return strings.Repeat("...", b2i(lo > 0)) + s[lo:hi] + strings.Repeat("...", b2i(hi < len(s)))
	}
	return excerpt(a), excerpt(b)
}

func (d *differences) tables(want, have *Table) {
	switch {
	case want == nil && have == nil:
		return
	case want == nil:
		d.add(have.title(), "", have.title())
		return
	case have == nil:
		d.add(want.title(), want.title(), "")
		return
	case want.Name != have.Name:
		d.add("table", "inet "+want.Name, "inet "+escape.Text(have.Name))
	}
	for _, w := range want.Sets {
		if h := have.Set(w.Name); h != nil {
			d.sets(w, h)
		} else {
			d.add(w.title(), w.Declaration(), "")
		}
	}
	for _, h := range have.Sets {
		if want.Set(h.Name) == nil {
			d.add(h.title(), "", h.Declaration())
		}
	}
	for _, w := range want.Chains {
		if h := have.Chain(w.Name); h != nil {
			d.chains(w, h)
		} else {
			d.add(w.title(), w.summary(), "")
		}
	}
	for _, h := range have.Chains {
		if want.Chain(h.Name) == nil {
			d.add(h.title(), "", h.summary())
		}
	}
	d.order(want, have)
	d.lists(want.title(), want.Unsupported(), escape.Texts(have.Unsupported()))
}

// order reports where packets begin to meet the base chains that both have in
// another order: of chains at one place the kernel runs the last declared first.
func (d *differences) order(want, have *Table) {
	if !want.sharesHook() {
		return
	}
	w, h := commonBases(want, have), commonBases(have, want)
	for i := range min(len(w), len(h)) {
		if w[i] != h[i] {
			d.add("chain "+escape.Text(w[i]), "met before chain "+escape.Text(h[i]), "met after it")
			return
		}
	}
}

// sharesHook reports whether two base chains are at one hook: elsewhere there is
// no order of them.
func (t *Table) sharesHook() bool {
	var seen uint64
	for _, c := range t.Chains {
		if c.Base == nil {
			continue
		}
		if seen&(1<<c.Base.Hook) != 0 {
			return true
		}
		seen |= 1 << c.Base.Hook
	}
	return false
}

// commonBases are the names of t's base chains that other has too and that hook
// into the same place, as packets meet them.
func commonBases(t, other *Table) (names []string) {
	for _, c := range t.bases() {
		if o := other.Chain(c.Name); o != nil && o.baseText() == c.baseText() {
			names = append(names, c.Name)
		}
	}
	return names
}

func (c *Chain) summary() string {
	kind := "a regular chain"
	if c.Base != nil {
		kind = c.Base.String()
	}
	return fmt.Sprintf("%s %d rules", kind, len(c.Rules))
}

const maxListed = 10 // elements named in one difference

func (d *differences) sets(want, have *Set) {
	where := want.title()
	if w, h := want.Declaration(), have.Declaration(); w != h {
		d.add(where, w, h)
		return
	}
	if want.Live {
		return
	}
	change := setChange(want, have)
	if change.empty() {
		return
	}
	d.elements = append(d.elements, change)
	if len(change.Add) > 0 {
		d.list = append(d.list, Difference{where + " element", listed(change.Add, want.Key), ""})
	}
	if len(change.Delete) > 0 {
		d.list = append(d.list, Difference{where + " element", "", listed(change.Delete, want.Key)})
	}
}

func listed(elements []Element, key []DataType) string {
	words := elementTexts(elements[:min(len(elements), maxListed)], key)
	text := strings.Join(words, ", ")
	if rest := len(elements) - maxListed; rest > 0 {
		text += fmt.Sprintf(" and %d more", rest)
	}
	return text
}

func (d *differences) chains(want, have *Chain) {
	where := want.title()
	if w, h := want.baseText(), have.baseText(); w != h {
		d.add(where, w, h)
	}
	d.rules(where, want.Rules, have.Rules)
}

func (c *Chain) baseText() string {
	text := "a regular chain"
	if c.Base != nil {
		text = c.Base.String()
	}
	if c.Others != "" {
		text += " " + unknown(c.Others)
	}
	return text
}

// rules aligns the two lists on their longest common subsequence. What stands
// between two common rules is paired off in order as changed rules; the rest
// is missing or extra.
func (d *differences) rules(where string, want, have []Rule) {
	w, h := mapped(want, Rule.key), mapped(have, Rule.key)
	i, j := 0, 0
	for _, pair := range append(commonRules(w, h), [2]int{len(w), len(h)}) {
		for ; i < pair[0] || j < pair[1]; i, j = min(i+1, pair[0]), min(j+1, pair[1]) {
			switch {
			case i < pair[0] && j < pair[1]:
				d.add(rulePlace(where, i, want[i]), want[i].body(have[j]), have[j].body(want[i]))
			case i < pair[0]:
				d.add(rulePlace(where, i, want[i]), want[i].body(want[i]), "")
			default:
				d.add(rulePlace(where, j, have[j]), "", have[j].body(have[j]))
			}
		}
		i, j = pair[0]+1, pair[1]+1
	}
}

func rulePlace(where string, i int, r Rule) string {
	if r.Reason == "" {
		return fmt.Sprintf("%s rule %d", where, i+1)
	}
	return fmt.Sprintf("%s rule %d %s", where, i+1, quote(r.Reason))
}

// body is the rule without its reason, unless the reasons are what differs.
func (r Rule) body(other Rule) string {
	if r.Reason == other.Reason {
		r.Reason = ""
	}
	return r.String()
}

// Equal reports whether the two rules say the same, for the same reason.
func (r Rule) Equal(o Rule) bool { return r.normal().key() == o.normal().key() }

// key is what makes two rules the same. It holds the bytes of what the model
// does not know and of a reason that the text escapes.
func (r Rule) key() string {
	key := r.String()
	if escape.Text(r.Reason) != r.Reason {
		key += "\x00reason\x00" + r.Reason
	}
	for _, n := range r.Nodes {
		if o, ok := n.(Opaque); ok {
			key += "\x00opaque\x00" + string(o.Raw)
		}
	}
	return key
}

const maxAligned = 2000 // rules; the alignment's cost is their product

// commonRules are the index pairs of a longest common subsequence; of two long
// lists, those of the common head and tail alone.
func commonRules(a, b []string) [][2]int {
	var head, tail [][2]int
	lo := 0
	for lo < len(a) && lo < len(b) && a[lo] == b[lo] {
		head = append(head, [2]int{lo, lo})
		lo++
	}
	ea, eb := len(a), len(b)
	for ea > lo && eb > lo && a[ea-1] == b[eb-1] {
		ea, eb = ea-1, eb-1
		tail = append(tail, [2]int{ea, eb})
	}
	slices.Reverse(tail)
	if ea-lo <= maxAligned && eb-lo <= maxAligned {
		for _, p := range longestCommon(a[lo:ea], b[lo:eb]) {
			head = append(head, [2]int{p[0] + lo, p[1] + lo})
		}
	}
	return append(head, tail...)
}

func longestCommon(a, b []string) [][2]int {
	length := make([][]int, len(a)+1)
	for i := range length {
		length[i] = make([]int, len(b)+1)
	}
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			length[i][j] = max(length[i+1][j], length[i][j+1])
			if a[i] == b[j] {
				length[i][j] = length[i+1][j+1] + 1
			}
		}
	}
	var pairs [][2]int
	for i, j := 0, 0; i < len(a) && j < len(b); {
		switch {
		case a[i] == b[j]:
			pairs = append(pairs, [2]int{i, j})
			i, j = i+1, j+1
		case length[i+1][j] >= length[i][j+1]:
			i++
		default:
			j++
		}
	}
	return pairs
}

func (d *differences) lists(where string, want, have []string) {
	for _, w := range want {
		if !slices.Contains(have, w) {
			d.add(where, w, "")
		}
	}
	for _, h := range have {
		if !slices.Contains(want, h) {
			d.add(where, "", h)
		}
	}
}

// SetChange turns the elements of one set into those of another.
type SetChange struct {
	Set         *Set // as wanted, in normal form
	Delete, Add []Element
}

func (c SetChange) empty() bool { return len(c.Delete)+len(c.Add) == 0 }

// setChange compares two sets in normal form.
func setChange(wanted, had *Set) SetChange {
	want, have := wanted.Elements, had.Elements
	c := SetChange{Set: wanted}
	i, j := 0, 0
	for i < len(want) && j < len(have) {
		order := compareKeys(want[i].Key, have[j].Key)
		if order == 0 && !want[i].saysSame(&have[j]) {
			c.Add, c.Delete = append(c.Add, want[i]), append(c.Delete, have[j])
		}
		if order < 0 {
			c.Add = append(c.Add, want[i])
		}
		if order > 0 {
			c.Delete = append(c.Delete, have[j])
		}
		i, j = i+b2i(order <= 0), j+b2i(order >= 0)
	}
	c.Add = append(c.Add, want[i:]...)
	c.Delete = append(c.Delete, have[j:]...)
	return c
}

// Same reports whether two sets are declared alike and, unless they are live,
// hold the same elements. Both are in normal form.
func (s *Set) Same(t *Set) bool {
	return s.Declaration() == t.Declaration() && (s.Live || setChange(s, t).empty())
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}
