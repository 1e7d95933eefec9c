// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nft

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"net/netip"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/nftables/userdata"
	"github.com/mdlayher/netlink"
	"github.com/weir-mesh/weir/rules"
	"github.com/weir-mesh/weir/sim"
	"golang.org/x/sys/unix"
)

// row is one way of using a node, which must be whole: printed, lowered, lifted,
// evaluated and checked.
type row struct {
	why    string
	base   *rules.Base // of the chain; nil is a chain that no base chain reaches
	sets   []*rules.Set
	nodes  []rules.Node
	broken []rules.Node // its twin, which Check refuses
	loads  string       // why nft cannot load its text, "" if it can
	differ string       // why nft's expressions are others, "" if they are the same bytes
}

func (r row) state() rules.State {
	t := &rules.Table{Name: "weir", Sets: r.sets, Chains: []*rules.Chain{{Name: "there"}}}
	if r.nodes != nil {
		t.Chains = append(t.Chains, &rules.Chain{Name: "row", Base: r.base, Rules: []rules.Rule{{Reason: r.why, Nodes: r.nodes}}})
	}
	return rules.State{Table: t}
}

// together are all rows in one table, a chain each.
func together(rows []row) rules.State {
	t := &rules.Table{Name: "weir", Chains: []*rules.Chain{{Name: "there"}}}
	for i, r := range rows {
		renamed := func(name string) string {
			if name == "" {
				return ""
			}
			return fmt.Sprintf("%s_%d", name, i)
		}
		for _, s := range r.sets {
			s := *s
			s.Name = renamed(s.Name)
			t.Sets = append(t.Sets, &s)
		}
		nodes := make([]rules.Node, len(r.nodes))
		for j, n := range r.nodes {
			switch n := n.(type) {
			case rules.Match:
				n.Set = renamed(n.Set)
				nodes[j] = n
			case rules.VMap:
				n.Map = renamed(n.Map)
				nodes[j] = n
			case rules.Dynset:
				n.Set = renamed(n.Set)
				nodes[j] = n
			default:
				nodes[j] = n
			}
		}
		if len(nodes) > 0 {
			t.Chains = append(t.Chains, &rules.Chain{Name: chainOf(i), Base: r.base, Rules: []rules.Rule{{Reason: r.why, Nodes: nodes}}})
		}
	}
	return rules.State{Table: t}.Normal()
}

func chainOf(row int) string { return fmt.Sprintf("row_%d", row) }

// TestComplete walks every row through the sides that need no kernel.
func TestComplete(t *testing.T) {
	for _, r := range allRows(t) {
		state := r.state()
		if err := state.Check(); err != nil {
			t.Errorf("%s: %v", r.why, err)
			continue
		}
		if r.broken != nil {
			twin := r
			twin.nodes = r.broken
			if twin.state().Check() == nil {
				t.Errorf("%s: nothing is found wrong with %v", r.why, r.broken)
			}
		}
		want := state.Normal()
		if have := (rules.State{Table: dumped(t, want.Table)}).Normal(); !want.Equal(have) || !reflect.DeepEqual(tidied(want), tidied(have)) {
			t.Errorf("%s: lowered and lifted it is\n%s\nwhere it was\n%s", r.why, have, want)
		}
	}
}

// TestCompleteEvaluates has packets of every sort meet every row: what becomes of
// each is known, but where a rule asks for TCP flags that packets may have or not.
func TestCompleteEvaluates(t *testing.T) {
	home := netip.MustParsePrefix("192.0.2.2/24")
	socket := sim.Socket{Proto: rules.TCP, Local: netip.MustParseAddrPort("0.0.0.0:15001"), Transparent: true, Cgroups: []rules.CgroupID{1, 2}}
	host := sim.NewHost(sim.Link{Name: "eth0", Addresses: []netip.Prefix{home, netip.MustParsePrefix("2001:db8::2/64")}})
	host.Sockets = []sim.Socket{socket}
	world := map[string]string{"192.0.2.1:80": "192.0.2.2:15001", "[2001:db8::1]:53": "[2001:db8::2]:80", "127.0.0.1:80": "127.0.0.1:15001"}
	open := 0
	for _, r := range allRows(t) {
		state := r.state()
		if row := state.Table.Chain("row"); row != nil && row.Base == nil {
			reached := &rules.Chain{Name: "reached", Base: mangle}
			reached.Add("", rules.Jump("row"))
			state.Table.Chains = append(state.Table.Chains, reached)
		}
		e := sim.EvaluatorOf(state, host)
		for away, here := range world {
			away, here := netip.MustParseAddrPort(away), netip.MustParseAddrPort(here)
			for _, proto := range []rules.Proto{rules.TCP, rules.UDP} {
				for _, p := range []sim.Packet{
					{Proto: proto, Dst: away, Socket: &socket},
					{Proto: proto, Dst: away, State: rules.CTEstablished, CTMark: 1},
					{Proto: proto, Src: away, Dst: here, In: "eth0"},
				} {
					fate := e.Evaluate(p, nil).Fate
					if asksForOpenFlags(fate) {
						open++
						continue
					}
					if fate.Kind == sim.Unknown {
						t.Errorf("%s: of %+v it is not known what becomes: %s", r.why, p, fate.Why)
					}
				}
			}
		}
	}
	if open == 0 {
		t.Error("no row asks for flags that are not known")
	}
}

// asksForOpenFlags reports whether a rule asked for TCP flags of which it is not
// known whether the packet has them.
func asksForOpenFlags(f sim.Fate) bool {
	return f.Kind == sim.Unknown && strings.Contains(f.Why, "which of the flags ")
}

// TestCompleteInKernel has a kernel hold every row twice, from our messages and
// from our text by way of nft.
func TestCompleteInKernel(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	c := dialKernel(t)
	var loadable, others []row
	for _, r := range allRows(t) {
		if r.loads == "" {
			loadable = append(loadable, r)
		} else {
			others = append(others, r)
		}
	}
	t.Logf("%d rows that nft loads and %d that it cannot", len(loadable), len(others))
	want := together(others)
	replaceKernelTable(t, c, want.Table)
	for _, d := range want.Compare(kernelState(t, c)) {
		t.Errorf("applied: %v", d)
	}

	const atOnce = 150 // what nft can send without privileges
	for rows := range slices.Chunk(loadable, atOnce) {
		holdTwice(t, c, rows)
	}
}

func holdTwice(t *testing.T, c *Conn, rows []row) {
	want := together(rows)
	replaceKernelTable(t, c, want.Table)
	for _, d := range want.Compare(kernelState(t, c)) {
		t.Errorf("applied: %v", d)
	}
	ours, ourSets := rawRules(t, c), rawSets(t, c)
	if err := nftLoad(want.String()); err != nil {
		t.Fatalf("nft does not load our text: %v", err)
	}
	for _, d := range want.Compare(kernelState(t, c)) {
		t.Errorf("loaded by nft: %v", d)
	}
	theirs, theirSets := rawRules(t, c), rawSets(t, c)
	for i, r := range rows {
		name := chainOf(i)
		if same := reflect.DeepEqual(ours[name], theirs[name]); same != (r.differ == "") {
			t.Errorf("%s: the same bytes: %v, said to differ: %q\nours   %q\ntheirs %q", r.why, same, r.differ, ours[name], theirs[name])
		}
	}
	for name, s := range ourSets {
		if s != theirSets[name] {
			t.Errorf("set %s is declared as\n%v\nand by nft as\n%v", name, s, theirSets[name])
		}
	}
	if len(ourSets) != len(theirSets) {
		t.Errorf("%d sets, and by nft %d", len(ourSets), len(theirSets))
	}
}

// rawRules are the expressions of the first rule of each chain, as the kernel
// gives them, less the names of anonymous sets.
func rawRules(t *testing.T, c *Conn) map[string][]string {
	t.Helper()
	msgs, err := dump(t.Context(), c.nf, uint16(nfType(unix.NFT_MSG_GETRULE)), request("weir", nil))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]string{}
	for _, m := range msgs {
		a, err := payload(m)
		if err != nil {
			t.Fatal(err)
		}
		exprs, err := list(a.Take(unix.NFTA_RULE_EXPRESSIONS))
		if err != nil {
			t.Fatal(err)
		}
		chain := a.Text(unix.NFTA_RULE_CHAIN)
		for _, raw := range exprs {
			out[chain] = append(out[chain], string(withoutSetName(raw)))
		}
	}
	return out
}

func withoutSetName(raw []byte) []byte {
	return rewritten(raw, func(name string, inner []netlink.Attribute) []netlink.Attribute {
		for i, at := range inner {
			if name == "lookup" && at.Type == unix.NFTA_LOOKUP_SET && bytes.HasPrefix(at.Data, []byte("__")) {
				inner[i].Data = []byte("anonymous")
			}
		}
		return inner
	})
}

// rawSets are the declarations of named sets as the kernel gives them, and what
// they tell nft of the order of bytes.
func rawSets(t *testing.T, c *Conn) map[string]string {
	t.Helper()
	msgs, err := dump(t.Context(), c.nf, uint16(nfType(unix.NFT_MSG_GETSET)), request("weir", nil))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, m := range msgs {
		a, err := payload(m)
		if err != nil {
			t.Fatal(err)
		}
		name := a.Text(unix.NFTA_SET_NAME)
		order, _ := userdata.GetUint32(a.Take(unix.NFTA_SET_USERDATA), userdata.NFTNL_UDATA_SET_KEYBYTEORDER)
		text := fmt.Sprintf("byte order %d", order)
		for _, typ := range []uint16{unix.NFTA_SET_FLAGS, unix.NFTA_SET_KEY_TYPE, unix.NFTA_SET_KEY_LEN, unix.NFTA_SET_DATA_TYPE,
			unix.NFTA_SET_DESC, unix.NFTA_SET_TIMEOUT, nftaSetExpr} {
			text += fmt.Sprintf(", %d: %x", typ, a.Take(typ))
		}
		if !strings.HasPrefix(name, "__") {
			out[name] = text
		}
	}
	return out
}

// TestEveryKindHasARow fails where something was added to the model without a
// row for it.
func TestEveryKindHasARow(t *testing.T) {
	rows := allRows(t)
	kinds := map[string]bool{}
	selectors := map[rules.Selector]bool{}
	types := map[rules.DataType]bool{}
	verdicts := map[rules.VerdictKind]bool{}
	fields := map[string]bool{}
	bases := map[string]bool{}
	see := func(key []rules.Selector, elements []rules.Element) {
		for _, s := range key {
			kind, _ := s.Kind()
			selectors[kind] = true
		}
		for _, e := range elements {
			verdicts[e.Verdict.Kind] = true
			setFields(fields, e)
		}
	}
	for _, r := range rows {
		if r.base != nil {
			bases[string(r.base.Type)+" "+r.base.Hook.String()] = true
			setFields(fields, *r.base)
		}
		for _, s := range r.sets {
			setFields(fields, *s)
			for _, d := range s.Key {
				types[d] = true
			}
			see(nil, s.Elements)
		}
		for _, n := range r.nodes {
			kinds[reflect.TypeOf(n).Name()] = true
			setFields(fields, n)
			switch n := n.(type) {
			case rules.Match:
				see(n.Key, n.Elements)
			case rules.VMap:
				see(n.Key, n.Elements)
			case rules.Dynset:
				see(n.Key, nil)
			case rules.Verdict:
				verdicts[n.Kind] = true
			}
		}
	}
	declared := nodeKinds(t)
	for _, kind := range declared {
		if !kinds[kind] && kind != "Opaque" { // a foreign expression: TestForeignRules
			t.Errorf("no row has a %s", kind)
		}
	}
	for _, s := range kernelSelectors() {
		if !selectors[s] {
			t.Errorf("no row reads %s", s)
		}
	}
	for _, d := range setTypes() {
		if !types[d] {
			t.Errorf("no row has a set of %s", d)
		}
	}
	for k := rules.AcceptKind; k.String() != ""; k++ {
		if !verdicts[k] {
			t.Errorf("no row says %s", k)
		}
	}
	for _, typ := range constants(t, "ChainType") {
		for h := rules.Prerouting; h.String() != "hook"; h++ {
			base := &rules.Base{Type: rules.ChainType(typ), Hook: h}
			if h == rules.Ingress {
				base.Devices = []string{"lo"}
			}
			name := typ + " " + h.String()
			if takes := (row{base: base, nodes: []rules.Node{rules.Counter{}}}).state().Check() == nil; takes != bases[name] {
				t.Errorf("a chain of type %s: Check takes it %v, a row has it %v", name, takes, bases[name])
			}
		}
	}
	found := []string{ // only a dump sets them
		"Set.Others", "Element.Expires", "Element.Counter", "Counter.Packets", "Counter.Bytes", "Set.Name",
	}
	for _, v := range []any{rules.Set{}, rules.Element{}, rules.Base{}, rules.Match{}, rules.VMap{}, rules.Verdict{}, rules.Redirect{}, rules.SNAT{}, rules.DNAT{}, rules.TProxy{}, rules.Assign{}, rules.Counter{}, rules.NoTrack{}, rules.Reject{}, rules.Log{}, rules.Dynset{}} {
		typ := reflect.TypeOf(v)
		declared = slices.DeleteFunc(declared, func(kind string) bool { return kind == typ.Name() })
		for i := range typ.NumField() {
			if name := typ.Name() + "." + typ.Field(i).Name; !fields[name] && !slices.Contains(found, name) {
				t.Errorf("no row sets %s", name)
			}
		}
	}
	if !slices.Equal(declared, []string{"Opaque"}) {
		t.Errorf("the fields of %v are not looked at here", declared)
	}
}

// kernelSelectors are all selectors that a kernel can be asked for.
func kernelSelectors() (all []rules.Selector) {
	for s := rules.Selector(1); s.String() != ""; s++ {
		if s.Type().Len() > 0 {
			all = append(all, s)
		}
	}
	return all
}

// setFields notes which fields of a struct are not zero.
func setFields(seen map[string]bool, v any) {
	value := reflect.ValueOf(v)
	for i := range value.NumField() {
		if !value.Field(i).IsZero() {
			seen[value.Type().Name()+"."+value.Type().Field(i).Name] = true
		}
	}
}

// nodeKinds are the types of package rules with a method `needs`, which every
// node has.
func nodeKinds(t *testing.T) []string {
	var kinds []string
	eachDeclaration(t, func(d ast.Decl) {
		f, ok := d.(*ast.FuncDecl)
		if !ok || f.Recv == nil || f.Name.Name != "needs" {
			return
		}
		kinds = append(kinds, f.Recv.List[0].Type.(*ast.Ident).Name)
	})
	slices.Sort(kinds)
	if len(kinds) == 0 {
		t.Fatal("found no kind of node")
	}
	return kinds
}

// constants are the values of the string constants of a type.
func constants(t *testing.T, typ string) []string {
	var values []string
	eachDeclaration(t, func(d ast.Decl) {
		g, ok := d.(*ast.GenDecl)
		if !ok || g.Tok != token.CONST {
			return
		}
		for _, s := range g.Specs {
			s := s.(*ast.ValueSpec)
			if id, ok := s.Type.(*ast.Ident); ok && id.Name == typ {
				values = append(values, strings.Trim(s.Values[0].(*ast.BasicLit).Value, `"`))
			}
		}
	})
	if len(values) == 0 {
		t.Fatalf("found no constants of type %s", typ)
	}
	return values
}

func eachDeclaration(t *testing.T, visit func(ast.Decl)) {
	t.Helper()
	files, err := filepath.Glob("../rules/*.go")
	if err != nil || len(files) == 0 {
		t.Fatalf("the source of package rules: %v, %d files", err, len(files))
	}
	for _, name := range files {
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			visit(d)
		}
	}
}
