// SPDX-License-Identifier: Apache-2.0

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

// String is a paragraph of several lines: where, then both sides. Print each by itself.
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

// Changes are what makes one state into another.
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
	d.lists("address", mapped(want.Addresses, addressText), mapped(have.Addresses, addressText))
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
