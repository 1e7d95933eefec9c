package nft

import (
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/weir-mesh/weir/rules"
)

// randomBytes are the same for the same seed.
func randomBytes(seed uint64, length int) []byte {
	b := make([]byte, length)
	_, _ = rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16)}).Read(b) // never fails
	return b
}

// FuzzLiftLower holds the first law of the package: what is lowered is lifted
// again as it was, up to its normal form.
func FuzzLiftLower(f *testing.F) {
	f.Add([]byte{})
	for seed := range uint64(200) {
		f.Add(randomBytes(seed, 2000))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		table := (&chooser{data: data}).randomTable()
		state := rules.State{Table: table}
		if err := state.Check(); err != nil {
			t.Skip(err) // rules that pass one by one can jump in a circle, or too deep
		}
		want := state.Normal()
		if again := want.Normal(); !reflect.DeepEqual(again, want) {
			t.Fatalf("the normal form of a normal form is another\nonce  %s\ntwice %s", want, again)
		}
		if err := want.Check(); err != nil {
			t.Fatalf("the normal form is refused: %v\n%s", err, want)
		}
		if state.Hash() != want.Hash() {
			t.Fatalf("the normal form has another hash\n%s", want)
		}
		have := rules.State{Table: dumped(t, want.Table)}.Normal()
		if d := rules.Compare(want, have); len(d) > 0 {
			t.Fatalf("%v\nof\n%s", d, want)
		}
		if w, h := tidied(want), tidied(have); !reflect.DeepEqual(w, h) {
			t.Fatalf("lifted with the text of what was lowered, and not the same:\nwant %#v\nhave %#v", w, h)
		}
	})
}

// tidied is a normal state less what makes no difference: empty lists.
func tidied(s rules.State) rules.State {
	t := *s.Table
	t.Sets, t.Chains, t.Others = nil, nil, nil
	for _, set := range s.Table.Sets {
		c := *set
		c.Elements = append([]rules.Element(nil), c.Elements...)
		t.Sets = append(t.Sets, &c)
	}
	for _, chain := range s.Table.Chains {
		c := *chain
		c.Rules = append([]rules.Rule(nil), c.Rules...)
		for i, r := range c.Rules {
			c.Rules[i].Nodes = append([]rules.Node(nil), r.Nodes...)
			for j, n := range r.Nodes {
				if m, ok := n.(rules.Match); ok && len(m.Elements) == 0 {
					m.Elements = nil
					c.Rules[i].Nodes[j] = m
				}
			}
		}
		t.Chains = append(t.Chains, &c)
	}
	return rules.State{Table: &t}
}
