// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nft

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/jsimonetti/rtnetlink/v2"
	"github.com/mdlayher/netlink"
	"github.com/weir-mesh/weir/internal/nl"
	"github.com/weir-mesh/weir/internal/reserved"
	"github.com/weir-mesh/weir/internal/rtnl"
	"github.com/weir-mesh/weir/rules"
	"github.com/weir-mesh/weir/sim"
	"golang.org/x/sys/unix"
)

// randomBytes are the same for the same seed.
func randomBytes(seed uint64, length int) []byte {
	b := make([]byte, length)
	var key [32]byte
	binary.BigEndian.PutUint64(key[:], seed)
	_, _ = rand.NewChaCha8(key).Read(b) // never fails
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
		if d := want.Compare(have); len(d) > 0 {
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

// FuzzEvaluate: what becomes of a packet is known of every state that Check takes,
// and is the same by its normal form and by what a kernel would tell of it.
func FuzzEvaluate(f *testing.F) {
	for seed := range uint64(200) {
		f.Add(randomBytes(seed, 2000))
	}
	host := sim.NewHost(sim.Link{Name: "eth0", Addresses: []netip.Prefix{netip.MustParsePrefix("192.0.2.2/24")}})
	host.Routes = append(host.Routes, sim.Route{Table: rules.MainTable, Dst: netip.MustParsePrefix("0.0.0.0/0"), Type: rules.Unicast, Out: "eth0"})
	f.Fuzz(func(t *testing.T, data []byte) {
		c := &chooser{data: data}
		p := sim.Packet{Proto: pick(c, rules.TCP, rules.UDP), Mark: rules.Mark(c.number(4)),
			Src: netip.AddrPortFrom(netip.Addr{}, uint16(c.number(2))), Dst: netip.AddrPortFrom(c.addr(rules.IPDaddr.Type()), uint16(c.number(2))),
			Socket: &sim.Socket{UID: rules.UID(c.number(4)), Cgroups: []rules.CgroupID{1}}}
		if c.one(2) {
			p.In, p.Socket, p.Src = "eth0", nil, netip.AddrPortFrom(c.addr(rules.IPDaddr.Type()), 7)
		}
		state := rules.State{Table: c.randomTable()}
		if err := state.Check(); err != nil {
			t.Skip(err)
		}
		want := sim.EvaluatorOf(state, host).Evaluate(p, nil).Fate
		if want.Kind == sim.Unknown && !asksForOpenFlags(want) {
			t.Fatalf("%s\nof %+v it is not known what becomes: %s", state, p, want.Why)
		}
		normal := state.Normal()
		lifted := rules.State{Table: dumped(t, normal.Table)}
		for _, s := range []rules.State{normal, lifted} {
			if got := sim.EvaluatorOf(s, host).Evaluate(p, nil).Fate; got != want {
				t.Fatalf("%s\nof %+v becomes %+v, by\n%s\n%+v", state, p, want, s, got)
			}
		}
	})
}

// FuzzDecode gives every decoder bytes that no kernel would send. None may
// panic, and what is made of them can be printed, compared and sent again.
func FuzzDecode(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte("weir 1 0123456789abcdef v1\npart 01234567 chain output\nrouting ip rule add\nadded ::6/128"))
	for seed := range uint64(20) {
		b := &batch{}
		table := (&chooser{data: randomBytes(seed, 2000)}).randomTable()
		addWhole(b, table, newTag(rules.State{Table: table}.Normal(), "v1", nil, nil))
		for _, ch := range b.changes {
			f.Add(ch.data)
			a, err := nl.Decode(ch.data)
			if err != nil {
				f.Fatal(err)
			}
			for _, inner := range a {
				f.Add(inner.Data)
			}
		}
	}
	sets := map[string]*rules.Set{"": {Key: []rules.DataType{rules.MetaMark.Type()}, Interval: true}}
	for i, d := range setTypes() {
		sets[string(rune('a'+i))] = &rules.Set{Name: "s", Key: []rules.DataType{d}, Interval: i%2 == 0, Verdicts: i%3 == 0}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		decodeRule(t, data, sets)
		decodeSet(data)
		decodeRouting(data)
		decodeAnswer(data)
		tag := &rules.Set{Name: reserved.Tag}
		for line := range strings.Lines(string(data)) {
			tag.Elements = append(tag.Elements, rules.Element{Comment: strings.TrimSuffix(line, "\n")})
		}
		if got := parseTag(tag); got != nil {
			_ = got.String()
			_ = got.differences(rules.State{})
			if len(got.set().Elements) > len(tag.Elements) {
				t.Errorf("%d comments were read as %d", len(tag.Elements), len(got.set().Elements))
			}
		}
	})
}

func decodeRule(t *testing.T, data []byte, sets map[string]*rules.Set) {
	exprs, err := list(data)
	if err != nil {
		return
	}
	nodes := liftRule(exprs, sets, 0)
	if len(nodes) == 0 && len(exprs) > 0 {
		t.Errorf("%d expressions were lifted as nothing", len(exprs))
	}
	if len(nodes) > 2*len(exprs) {
		t.Errorf("%d expressions were lifted as %d nodes", len(exprs), len(nodes))
	}
	table := &rules.Table{Name: "weir", Chains: []*rules.Chain{{Name: "c", Rules: []rules.Rule{{Nodes: nodes}}}}}
	state := rules.State{Table: table}
	_ = state.String()
	_ = state.Check()
	if d := state.Compare(state); len(d) > 0 {
		t.Errorf("a state is not itself: %v", d)
	}
	lower(&batch{}, table).addAll(state.Normal().Table, nil)
}

func decodeSet(data []byte) {
	elements, _ := liftElements(data)
	if a, err := nl.Decode(data); err == nil {
		_, _ = liftBase(unix.NFPROTO_INET, a, data)
		s := liftSet(a)
		joinElements(s, elements)
		_ = s.String()
		_ = rules.State{Table: &rules.Table{Sets: []*rules.Set{s}}}.Check()
	}
	for _, d := range setTypes() {
		for _, interval := range []bool{false, true} {
			s := &rules.Set{Key: []rules.DataType{d}, Interval: interval}
			joinElements(s, slices.Clone(elements))
			_ = s.String()
			s = &rules.Set{Key: []rules.DataType{d, rules.TCPDport.Type()}, Interval: interval}
			joinElements(s, slices.Clone(elements))
			_ = rules.State{Table: &rules.Table{Sets: []*rules.Set{s}}}.Hash()
		}
	}
	_ = userText(data, 0)
}

func decodeRouting(data []byte) {
	if len(data) >= rtnl.RuleHeader {
		if a, err := nl.Decode(data[rtnl.RuleHeader:]); err == nil {
			_, _ = liftPolicyRule(rules.IPv4, data[:rtnl.RuleHeader], a)
		}
	}
	var r rtnetlink.RouteMessage
	if r.UnmarshalBinary(data) == nil {
		_, _, _ = routeTable(r), routeDst(r), deliversLocally(r)
	}
}

func decodeAnswer(data []byte) {
	msg := netlink.Message{Header: netlink.Header{Type: unix.NLMSG_ERROR, Flags: unix.NLM_F_ACK_TLVS}, Data: data}
	ch := change{typ: unix.NFT_MSG_NEWRULE, exprs: []string{"meta"}, data: data}
	if i, ok := ch.badExpression(msg); ok && i >= len(data) {
		panic("an expression beyond the message")
	}
	for _, at := range []int{-1, 0, 7, len(data), 1 << 30} {
		_, _ = expressionAt(data, at)
	}
	_ = ch.rejected(unix.ENOENT, msg)
}
