// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

// ofRules is a table with one chain of rules that are told apart by a port.
func ofRules(ports ...Port) State {
	c := &Chain{Name: "output", Base: &Base{Type: NATType, Hook: Output, Priority: PriorityDstNAT}}
	for _, p := range ports {
		c.Add(fmt.Sprintf("port %d", p), TCPDport.Is(p), Return())
	}
	return State{Table: &Table{Name: "weir", Chains: []*Chain{c}}}
}

func ofElements(ports ...Port) State {
	s := ofRules(1)
	ranges := make([]Range, len(ports))
	for i, p := range ports {
		ranges[i] = RangeOf(p)
	}
	TCPDport.AddSet(s.Table, "ports", ranges...)
	return s
}

// with changes a copy of the one-rule state.
func with(change func(*State)) State {
	s := ofRules(1)
	change(&s)
	return s
}

func TestCompareNamesWhatDiffers(t *testing.T) {
	const missing, extra = " is missing\n  want  ", " should not be there\n  have  "
	for _, tt := range []struct {
		why        string
		want, have State
		told       []string
	}{
		{"what is the same is not told", ofRules(1, 2), ofRules(1, 2), nil},
		{"a rule was deleted", ofRules(1, 2, 3), ofRules(1, 3),
			[]string{`chain output rule 2 "port 2"` + missing + "tcp dport 2 return"}},
		{"a rule was inserted", ofRules(1, 3), ofRules(1, 2, 3),
			[]string{`chain output rule 2 "port 2"` + extra + "tcp dport 2 return"}},
		{"a rule moved to the end", ofRules(1, 2, 3), ofRules(2, 3, 1),
			[]string{`chain output rule 1 "port 1"` + missing + "tcp dport 1 return", `chain output rule 3 "port 1"` + extra + "tcp dport 1 return"}},
		{"a rule says something else", ofRules(1), with(func(s *State) { s.Table.Chains[0].Rules[0].Nodes[1] = Drop() }),
			[]string{"chain output rule 1 \"port 1\" differs\n  want  tcp dport 1 return\n  have  tcp dport 1 drop"}},
		{"a reason is another", ofRules(1), with(func(s *State) { s.Table.Chains[0].Rules[0].Reason = "why not" }),
			[]string{"chain output rule 1 \"port 1\" differs\n  want  tcp dport 1 return comment \"port 1\"\n  have  tcp dport 1 return comment \"why not\""}},
		{"a chain hooks in elsewhere", ofRules(1), with(func(s *State) { s.Table.Chains[0].Base.Priority = 7 }),
			[]string{"chain output differs\n  want  type nat hook output priority -100; policy accept;\n  have  type nat hook output priority 7; policy accept;"}},
		{"a chain has another name", ofRules(1), with(func(s *State) { s.Table.Chains[0].Name = "other" }),
			[]string{"chain output" + missing, "chain other" + extra}},
		{"elements went and came", ofElements(1, 3), ofElements(3, 5),
			[]string{"set ports element" + missing + "1", "set ports element" + extra + "5"}},
		{"a set has other flags", ofElements(1), with(func(s *State) {
			*s = ofElements(1)
			s.Table.Sets[0].Counters = true
		}), []string{"set ports differs\n  want  type inet_service; flags interval\n  have  type inet_service; flags interval; counter"}},
		{"a set is in one of them alone", ofRules(1), ofElements(1), []string{"set ports" + extra}},
		{"something unknown stands in the table", ofRules(1), with(func(s *State) { s.Table.Others = []string{"flowtable f"} }),
			[]string{"table inet weir" + extra + "flowtable f"}},
		{"there is no table", ofRules(1), State{}, []string{"table inet weir" + missing + "table inet weir"}},
		{"there should be no table", State{}, ofRules(1), []string{"table inet weir" + extra + "table inet weir"}},
		{"routing went", with(func(s *State) {
			s.PolicyRules = []PolicyRule{{Family: IPv4, Priority: 9, Mark: 1, Mask: 1, Table: 5}}
			s.Routes = []Route{{Family: IPv6, Table: 5, Dst: netip.MustParsePrefix("::/0")}}
			s.Addresses = []netip.Prefix{netip.MustParsePrefix("::6/128")}
		}), ofRules(1), []string{"policy rule" + missing + "ip rule add priority 9", "route" + missing + "ip -6 route add local default", "address" + missing + "ip address add ::6/128 dev lo"}},
	} {
		t.Run(tt.why, func(t *testing.T) {
			got := tt.want.Compare(tt.have)
			if len(got) != len(tt.told) {
				t.Fatalf("got %d differences, want %d: %v", len(got), len(tt.told), got)
			}
			for i, d := range got {
				if !strings.HasPrefix(d.String(), tt.told[i]) {
					t.Errorf("got  %s\nwant %s", d, tt.told[i])
				}
			}
		})
	}
}

func TestDifferencesAreBounded(t *testing.T) {
	many := make([]Port, 1000)
	for i := range many {
		many[i] = Port(2*i + 1)
	}
	got := ofElements(many...).Compare(ofElements(2000))
	if len(got) != 2 || len(got[0].Want) > maxText || !strings.HasSuffix(got[0].Want, "and 990 more") {
		t.Errorf("got %v", got)
	}
}

// TestOrderOfBaseChains: where nothing but the order of declaration says which
// chain packets meet first, it counts. Nat works at its hook's own priority,
// whatever its chains say.
func TestOrderOfBaseChains(t *testing.T) {
	on := func(typ ChainType, hook Hook, name string) *Chain {
		return &Chain{Name: name, Base: &Base{Type: typ, Hook: hook, Priority: -100}}
	}
	nat, filter := on(NATType, Output, "nat"), on(FilterType, Output, "filter")
	elsewhere := on(NATType, Prerouting, "elsewhere")
	for _, tt := range []struct {
		why         string
		priority    [2]int32 // of nat and of filter
		first, last []*Chain
		same        bool
	}{
		{"one place and one priority", [2]int32{-100, -100}, []*Chain{nat, filter}, []*Chain{filter, nat}, false},
		{"one place and two priorities", [2]int32{-90, -100}, []*Chain{nat, filter}, []*Chain{filter, nat}, false},
		{"all of nat comes with its first chain", [2]int32{-90, -100}, []*Chain{elsewhere, filter, nat}, []*Chain{filter, elsewhere, nat}, false},
		{"two places", [2]int32{-100, 0}, []*Chain{nat, filter}, []*Chain{filter, nat}, true},
		{"one priority and two places", [2]int32{0, 0}, []*Chain{nat, filter}, []*Chain{filter, nat}, true},
	} {
		nat.Base.Priority, filter.Base.Priority = tt.priority[0], tt.priority[1]
		want, have := State{Table: &Table{Name: "t", Chains: tt.first}}, State{Table: &Table{Name: "t", Chains: tt.last}}
		differences := want.Compare(have)
		if (len(differences) == 0) != tt.same || len(differences) > 1 {
			t.Errorf("%s: %v", tt.why, differences)
		}
		if want.Equal(have) != (want.Hash() == have.Hash()) {
			t.Errorf("%s: the hashes are %s and %s", tt.why, want.Hash(), have.Hash())
		}
		if len(differences) == 1 && differences[0].Where+" "+differences[0].Want != "chain filter met before chain nat" {
			t.Errorf("%s: %v", tt.why, differences)
		}
	}
}

func TestElementsOnly(t *testing.T) {
	for _, tt := range []struct {
		why        string
		want, have State
		changes    int
		only       bool
	}{
		{"nothing differs", ofElements(1), ofElements(1), 0, true},
		{"an element came", ofElements(1, 3), ofElements(1), 1, true},
		{"a rule differs too", with(func(s *State) {
			*s = ofElements(1, 3)
			s.Table.Chains[0].Rules = nil
		}), ofElements(1), 1, false},
		{"a set is missing", ofElements(1), ofRules(1), 0, false},
		{"a set is too many", ofRules(1), ofElements(1), 0, false},
		{"there is no table", ofElements(1), State{}, 0, false},
		{"live elements never count", with(func(s *State) {
			*s = ofElements(1)
			s.Table.Sets[0].Live = true
		}), with(func(s *State) {
			*s = ofElements(5)
			s.Table.Sets[0].Live = true
		}), 0, true},
	} {
		t.Run(tt.why, func(t *testing.T) {
			c := tt.want.Normal().ChangesFrom(tt.have.Normal())
			if c.ElementsOnly != tt.only || tt.only && len(c.Elements) != tt.changes {
				t.Errorf("got %d changes, %v; want %d, %v", len(c.Elements), c.ElementsOnly, tt.changes, tt.only)
			}
		})
	}
}
