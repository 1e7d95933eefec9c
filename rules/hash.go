// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"bufio"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"io"
	"slices"
	"strconv"
)

const hashLength = 16 // hex digits: 64 bits tell states apart; forging one gains nothing

// Hash is a digest of what the kernel should hold: equal for states that are
// [State.Equal]. Sysctls are no part of it.
func (s State) Hash() string {
	hash, _ := s.Normal().Digest()
	return hash
}

// Part is a chain, set or map of a table, with a digest of what it says.
type Part struct{ Name, Digest string }

const partHashLength = 8

// Digest is the [State.Hash] and the digests of the table's parts that it is
// made of, each chain and then each declared set or map. The state is in normal
// form.
func (s State) Digest() (state string, parts []Part) {
	d := newDigester()
	if s.Table != nil {
		parts = d.parts(s.Table)
	}
	state = d.digest(func(w *bufio.Writer) {
		if s.Table != nil {
			hashTable(w, s.Table, parts)
		}
		s.Sysctls = nil
		for _, line := range s.Routing() {
			hashWord(w, line)
		}
	})[:hashLength]
	for i, p := range parts {
		parts[i].Digest = p.Digest[:partHashLength]
	}
	return state, parts
}

// digester makes one digest after the other.
type digester struct {
	sum hash.Hash
	w   *bufio.Writer // to sum; neither ever fails to write
}

func newDigester() *digester {
	sum := sha256.New()
	return &digester{sum, bufio.NewWriter(sum)}
}

func (d *digester) digest(write func(*bufio.Writer)) string {
	d.sum.Reset()
	write(d.w)
	_ = d.w.Flush()
	return hex.EncodeToString(d.sum.Sum(nil))
}

func (d *digester) parts(t *Table) []Part {
	var parts []Part
	for _, c := range t.Chains {
		parts = append(parts, Part{"chain " + c.Name, d.digest(func(w *bufio.Writer) { hashChain(w, c) })})
	}
	for _, s := range t.Sets {
		parts = append(parts, Part{s.kind() + " " + s.Name, d.digest(func(w *bufio.Writer) { hashSet(w, s) })})
	}
	return parts
}

// hashTable takes the parts in by name, then the regular chains by name and the
// base chains as packets meet them.
func hashTable(w *bufio.Writer, t *Table, parts []Part) {
	hashWord(w, t.Name)
	for _, p := range slices.SortedFunc(slices.Values(parts), func(a, b Part) int { return cmp.Compare(a.Name, b.Name) }) {
		hashWord(w, p.Name)
		hashWord(w, p.Digest)
	}
	regular := slices.DeleteFunc(slices.Clone(t.Chains), func(c *Chain) bool { return c.Base != nil })
	slices.SortStableFunc(regular, func(a, b *Chain) int { return cmp.Compare(a.Name, b.Name) })
	for _, c := range append(regular, t.bases()...) {
		hashWord(w, c.Name)
	}
	for _, o := range t.Unsupported() {
		hashWord(w, o)
	}
}

func hashSet(w *bufio.Writer, s *Set) {
	hashWord(w, s.kind()+" "+s.Name)
	hashWord(w, s.Declaration())
	if s.Live {
		return
	}
	for i := range s.Elements {
		hashElement(w, &s.Elements[i])
	}
}

func hashChain(w *bufio.Writer, c *Chain) {
	hashWord(w, "chain "+c.Name)
	hashWord(w, c.baseText())
	for _, r := range c.Rules {
		hashWord(w, r.key())
	}
}

// hashElement takes an element as bytes: sets are long, and their text slow to
// write.
func hashElement(w *bufio.Writer, e *Element) {
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
