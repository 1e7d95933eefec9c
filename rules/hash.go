package rules

import (
	"bufio"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"slices"
	"strconv"
)

const hashLength = 16 // hex digits: 64 bits tell states apart; nobody gains by forging one

// Hash is a digest of what the kernel should hold: equal for states that are
// [Equal]. Sysctls are no part of it.
func (s State) Hash() string {
	sum := sha256.New()
	w := bufio.NewWriter(sum) // neither ever fails to write
	n := s.Normal()
	if n.Table != nil {
		hashTable(w, n.Table)
	}
	n.Sysctls = nil
	for _, line := range n.Routing() {
		hashWord(w, line)
	}
	_ = w.Flush()
	return hex.EncodeToString(sum.Sum(nil))[:hashLength]
}

func hashTable(w *bufio.Writer, t *Table) {
	hashWord(w, t.Name)
	for _, s := range slices.SortedFunc(slices.Values(t.Sets), func(a, b *Set) int { return cmp.Compare(a.Name, b.Name) }) {
		hashWord(w, s.kind()+" "+s.Name)
		hashWord(w, s.Declaration())
		if s.Live {
			continue
		}
		for _, e := range s.Elements {
			hashElement(w, e)
		}
	}
	for _, c := range slices.SortedStableFunc(slices.Values(t.Chains), compareChains) {
		hashWord(w, "chain "+c.Name)
		hashWord(w, c.baseText())
		for _, r := range c.Rules {
			hashWord(w, r.key())
		}
	}
	for _, o := range t.Others {
		hashWord(w, o)
	}
}

// compareChains orders chains by name, save those of one hook and priority,
// which run as they were declared.
func compareChains(a, b *Chain) int {
	switch {
	case sameMoment(a, b):
		return 0
	case a.Base == nil && b.Base == nil:
		return cmp.Compare(a.Name, b.Name)
	case a.Base == nil || b.Base == nil:
		return b2i(b.Base == nil) - b2i(a.Base == nil)
	}
	return cmp.Or(cmp.Compare(a.Base.Hook, b.Base.Hook), cmp.Compare(a.Base.Priority, b.Base.Priority))
}

// hashElement takes an element as bytes: sets are long, and their text slow to
// write.
func hashElement(w *bufio.Writer, e Element) {
	for _, r := range e.Key {
		_, _ = w.WriteString(string(r.Lo))
		_, _ = w.WriteString(string(r.Hi))
	}
	if !e.bare() {
		hashWord(w, e.Comment)
		hashWord(w, e.Verdict.text(nil))
		hashWord(w, e.Timeout.String())
	}
}

func hashWord(w io.StringWriter, word string) {
	_, _ = w.WriteString(strconv.Itoa(len(word)))
	_, _ = w.WriteString(":")
	_, _ = w.WriteString(word)
}
