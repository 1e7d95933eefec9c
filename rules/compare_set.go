// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"strings"
)

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
