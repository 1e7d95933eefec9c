// SPDX-License-Identifier: Apache-2.0

package conflict

import (
	"slices"

	"github.com/weir-mesh/weir/rules"
)

// traffic is the classes that something touches.
type traffic struct {
	names    []string // each once
	families map[string][]rules.Family
	whole    map[string]bool // not only packets that a rule names
}

func (t *traffic) add(c class) {
	if t.families == nil {
		t.families, t.whole = map[string][]rules.Family{}, map[string]bool{}
	}
	if !slices.Contains(t.names, c.name) {
		t.names = append(t.names, c.name)
	}
	if !slices.Contains(t.families[c.name], c.family) {
		t.families[c.name] = append(t.families[c.name], c.family)
	}
	t.whole[c.name] = t.whole[c.name] || !c.part
}

// join adds what something else touches.
func (t *traffic) join(other traffic) {
	for _, n := range other.names {
		for _, f := range other.families[n] {
			t.add(class{name: n, family: f, part: !other.whole[n]})
		}
	}
}

// words name the classes, with the family where one alone is touched.
func (t *traffic) words() (out []string) {
	for _, n := range t.names {
		text := n
		if f := t.families[n]; len(f) == 1 {
			text += " (" + familyNames[f[0]] + ")"
		}
		if !t.whole[n] {
			text = "some " + text
		}
		out = append(out, text)
	}
	return out
}
