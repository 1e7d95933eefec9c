// SPDX-License-Identifier: Apache-2.0

package rules

// Match is a condition on the packet: a selector, or several that make a
// concatenation, and what it is tested against. A rule goes on to its next node
// only if the condition holds.
type Match struct {
	Key      []Selector
	Mask     Bits      // bits that count; "" is all of them
	Negated  bool      // `!=`
	Set      string    // the declared set that is looked up, or
	Elements []Element // the values: one is compared, more are an anonymous set
}

func (m Match) negated() Match {
	m.Negated = !m.Negated
	return m
}

// Anonymous reports whether the match needs a set of its own in the kernel: more
// than one value is looked up there, a concatenation, or an element that says
// more than its key.
func (m Match) Anonymous() bool {
	return m.Set == "" && (len(m.Elements) > 1 || len(m.Elements) == 1 && (len(m.Key) > 1 || !m.Elements[0].bare()))
}

// Types are the data types of the key's parts.
func (m Match) Types() []DataType { return typesOf(m.Key) }

func typesOf(key []Selector) []DataType {
	types := make([]DataType, len(key))
	for i, s := range key {
		types[i] = s.Type()
	}
	return types
}

// single is the value that is compared with, and false where more are.
func (m Match) single() (Bits, bool) {
	if m.Set != "" || len(m.Elements) != 1 || m.Anonymous() || len(m.Elements[0].Key) != 1 || !m.Elements[0].Key[0].Single() {
		return "", false
	}
	return m.Elements[0].Key[0].Lo, true
}

// isExactly reports whether the match is a plain `selector == value`.
func (m Match) isExactly(s Selector, v Bits) bool {
	one, ok := m.single()
	return ok && one == v && len(m.Key) == 1 && m.Key[0] == s && m.Mask == "" && !m.Negated
}
