package nft

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/weir-mesh/weir/rules"
)

// Tag is what an apply leaves in its table: which state it wrote, and what it
// added outside of nftables. It is the comment of the one element of a set.
type Tag struct {
	Schema    int            // of the tag itself
	Hash      string         // of the state, see [rules.State.Hash]
	Version   string         // of the program that wrote it
	Addresses []netip.Prefix // the state's addresses on lo,
	Added     []netip.Prefix // and those of them that were not there before
}

const (
	tagSet    = "tag"
	tagSchema = 1
	// maxVersion keeps the comment under 128 bytes beside a hash and two
	// addresses.
	maxVersion = 32
)

// text is "weir 1 HASH VERSION [+]ADDRESS...": a plus marks an added address.
func (t Tag) text() string {
	words := []string{"weir", strconv.Itoa(t.Schema), t.Hash, printable(t.Version)}
	for _, a := range t.Addresses {
		mark := ""
		if contains(t.Added, a) {
			mark = "+"
		}
		words = append(words, mark+a.String())
	}
	return strings.Join(words, " ")
}

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

func contains(list []netip.Prefix, a netip.Prefix) bool {
	for _, b := range list {
		if a == b {
			return true
		}
	}
	return false
}

// set is the tag as a set of the table. Its element is replaced with every
// change, because a set's or table's own comment cannot be.
func (t Tag) set() *rules.Set {
	element := rules.Element{Key: []rules.Range{rules.Span(rules.Mark(1))}, Comment: t.text()}
	return &rules.Set{Name: tagSet, Key: []rules.DataType{rules.MarkType}, Elements: []rules.Element{element}}
}

func isTagSet(s *rules.Set) bool { return s.Name == tagSet }

// parseTag reads a tag back; nil where the set holds none that can be read.
func parseTag(s *rules.Set) *Tag {
	if len(s.Elements) != 1 {
		return nil
	}
	t := &Tag{}
	words := strings.Fields(s.Elements[0].Comment)
	if len(words) < 4 || words[0] != "weir" {
		return nil
	}
	schema, err := strconv.Atoi(words[1])
	if err != nil {
		return nil
	}
	t.Schema, t.Hash, t.Version = schema, words[2], words[3]
	for _, w := range words[4:] {
		text, added := strings.CutPrefix(w, "+")
		a, err := netip.ParsePrefix(text)
		if err != nil {
			return nil
		}
		t.Addresses = append(t.Addresses, a)
		if added {
			t.Added = append(t.Added, a)
		}
	}
	return t
}

func (t Tag) String() string {
	return fmt.Sprintf("written by weir %s, state %s", t.Version, t.Hash)
}
