// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nft

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/weir-mesh/weir/internal/escape"
	"github.com/weir-mesh/weir/internal/reserved"
	"github.com/weir-mesh/weir/rules"
)

// Tag is what an apply leaves in its table: which state it wrote, and what it
// added outside of nftables. It is a set of its own, whose elements say it in
// their comments.
type Tag struct {
	Schema    int            // of the tag itself
	Hash      string         // of the state, see [rules.State.Hash]
	Version   string         // of the program that wrote it
	Parts     []rules.Part   // of the state's table
	Routing   []string       // the state's policy rules and routes, in ip(8)'s words
	Addresses []netip.Prefix // the state's addresses on lo,
	Added     []netip.Prefix // and those of them that were not there before
}

const (
	tagSchema  = 1
	maxVersion = 64 // bytes
	// The first words of the comments.
	tagState   = "weir"    // SCHEMA HASH VERSION
	tagPart    = "part"    // DIGEST NAME
	tagRouting = "routing" // what ip(8) takes
	tagAddress = "address" // was there before
	tagAdded   = "added"   // an address that was not
)

// newTag says what an apply writes: a state in normal form. Added are the
// addresses that it adds.
func newTag(s rules.State, version string, addresses, added []netip.Prefix) Tag {
	t := Tag{Schema: tagSchema, Version: version, Addresses: addresses, Added: added}
	t.Hash, t.Parts = s.Digest()
	// What is too long for a comment is left out: the hash tells of it still.
	t.Parts = slices.DeleteFunc(t.Parts, func(p rules.Part) bool { return len(partText(p)) > rules.MaxComment })
	t.Routing = rules.State{PolicyRules: s.PolicyRules, Routes: s.Routes}.Routing()
	return t
}

// says reports whether two tags tell of the same state.
func (t Tag) says(other Tag) bool {
	return t.Hash == other.Hash && slices.Equal(t.Parts, other.Parts) && slices.Equal(t.Routing, other.Routing) &&
		slices.Equal(t.Addresses, other.Addresses)
}

// comments are the tag in words.
func (t Tag) comments() []string {
	lines := []string{fmt.Sprintf("%s %d %s %s", tagState, t.Schema, t.Hash, printable(t.Version))}
	for _, a := range t.Addresses {
		word := tagAddress
		if slices.Contains(t.Added, a) {
			word = tagAdded
		}
		lines = append(lines, word+" "+a.String())
	}
	for _, p := range t.Parts {
		lines = append(lines, partText(p))
	}
	for _, r := range t.Routing {
		lines = append(lines, tagRouting+" "+r)
	}
	return lines
}

func partText(p rules.Part) string { return tagPart + " " + p.Digest + " " + p.Name }

// printable keeps of a version what can stand in a comment as one word.
func printable(version string) string {
	word := strings.Map(func(r rune) rune {
		if r <= ' ' || r > '~' || r == '"' {
			return '_'
		}
		return r
	}, version)
	if word == "" {
		return "unknown"
	}
	return word[:min(len(word), maxVersion)]
}

// set is the tag as a set of the table, made anew with every change: a set's or
// table's own comment cannot be changed.
func (t Tag) set() *rules.Set {
	s := &rules.Set{Name: reserved.Tag, Key: []rules.DataType{rules.MetaMark.Type()}}
	for i, line := range t.comments() {
		s.Elements = append(s.Elements, tagLine(i+1, line))
	}
	return s
}

// tagLine is the nth line of a tag, from 1 on.
func tagLine(n int, text string) rules.Element {
	return rules.Element{Key: []rules.Range{rules.RangeOf(rules.Mark(n))}, Comment: text}
}

func isTagSet(s *rules.Set) bool { return s.Name == reserved.Tag }

// signed reports whether a tag, readable or not, is of an apply: another program
// may have a set by its name.
func signed(tag *rules.Set) bool {
	return slices.ContainsFunc(tag.Elements, func(e rules.Element) bool { return strings.HasPrefix(e.Comment, tagState+" ") })
}

// parseTag reads a tag back; nil where the set holds none that can be read.
func parseTag(s *rules.Set) *Tag {
	t := &Tag{}
	lines := slices.SortedFunc(slices.Values(s.Elements), byKey)
	for _, e := range lines {
		if !t.parse(e.Comment) {
			return nil
		}
	}
	if t.Hash == "" {
		return nil
	}
	return t
}

// byKey orders elements as they were written; a kernel lists them in any order.
func byKey(a, b rules.Element) int {
	return slices.CompareFunc(a.Key, b.Key, func(a, b rules.Range) int { return cmp.Compare(a.Lo, b.Lo) })
}

// parse takes one comment in.
func (t *Tag) parse(comment string) bool {
	word, rest, _ := strings.Cut(comment, " ")
	switch word {
	case tagState:
		fields := strings.Fields(rest)
		if len(fields) != 3 || t.Hash != "" {
			return false
		}
		schema, err := strconv.Atoi(fields[0])
		t.Schema, t.Hash, t.Version = schema, fields[1], fields[2]
		return err == nil
	case tagPart:
		digest, name, ok := strings.Cut(rest, " ")
		t.Parts = append(t.Parts, rules.Part{Name: name, Digest: digest})
		return ok
	case tagRouting:
		t.Routing = append(t.Routing, rest)
		return true
	case tagAddress, tagAdded:
		a, err := netip.ParsePrefix(rest)
		t.Addresses = append(t.Addresses, a)
		if word == tagAdded {
			t.Added = append(t.Added, a)
		}
		return err == nil
	}
	return false
}

// differences lists in which parts a state is not what the tag says, a part a
// difference.
func (t Tag) differences(have rules.State) []rules.Difference {
	written := "as weir " + t.Version + " wrote it"
	var d []rules.Difference
	have = have.Normal()
	live := newTag(have, "", nil, nil)
	for _, p := range t.Parts {
		i := slices.IndexFunc(live.Parts, func(l rules.Part) bool { return l.Name == p.Name })
		switch {
		case i < 0:
			d = append(d, rules.Difference{Where: p.Name, Want: written})
		case live.Parts[i] != p:
			d = append(d, rules.Difference{Where: p.Name, Want: written + " (" + p.Digest + ")", Have: "changed since (" + live.Parts[i].Digest + ")"})
		}
	}
	for _, l := range live.Parts {
		if !slices.ContainsFunc(t.Parts, func(p rules.Part) bool { return l.Name == p.Name }) {
			d = append(d, rules.Difference{Where: l.Name, Have: "not there when weir " + t.Version + " wrote"})
		}
	}
	for _, r := range without(t.Routing, live.Routing) {
		d = append(d, rules.Difference{Where: "routing", Want: r})
	}
	for _, r := range without(live.Routing, t.Routing) {
		d = append(d, rules.Difference{Where: "routing", Have: r})
	}
	for _, a := range without(t.Addresses, have.Addresses) {
		d = append(d, rules.Difference{Where: "address", Want: addressText(a)})
	}
	for _, a := range without(have.Addresses, t.Addresses) {
		d = append(d, rules.Difference{Where: "address", Have: addressText(a)})
	}
	if have.Table != nil && have.Table.Dormant {
		d = append(d, rules.Difference{Where: "the table", Want: "awake, " + written, Have: "dormant: the kernel calls none of its chains"})
	}
	if hash := have.Hash(); len(d) == 0 && hash != t.Hash {
		d = append(d, rules.Difference{Where: "the state", Want: t.Hash + ", " + written, Have: hash})
	}
	for i := range d { // any process in the namespace may have written the tag
		d[i] = rules.Difference{Where: escape.Text(d[i].Where), Want: escape.Text(d[i].Want), Have: escape.Text(d[i].Have)}
	}
	return d
}

func (t Tag) String() string {
	return escape.Text(fmt.Sprintf("written by weir %s, state %s", t.Version, t.Hash))
}
