// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nft

import (
	"fmt"
	"strings"
	"testing"

	"github.com/mdlayher/netlink"
	"github.com/weir-mesh/weir/rules"
	"golang.org/x/sys/unix"
)

// asked counts what a connection asks the kernel for.
type asked struct {
	requests int // of any kind
	dumps    int
	elements []string // the sets whose elements were dumped, as table/set
}

func (a *asked) message(m netlink.Message) {
	a.requests++
	if m.Header.Flags&netlink.Dump != netlink.Dump {
		return
	}
	a.dumps++
	if m.Header.Type != nfType(unix.NFT_MSG_GETSETELEM) {
		return
	}
	attrs, err := payload(m)
	if err != nil {
		panic(err)
	}
	a.elements = append(a.elements, attrs.Text(unix.NFTA_SET_ELEM_LIST_TABLE)+"/"+attrs.Text(unix.NFTA_SET_ELEM_LIST_SET))
}

// listen counts what c asks for while do runs.
func listen(c *Conn, do func()) asked {
	var a asked
	c.nf.Asked, c.route.Asked = a.message, a.message
	do()
	c.nf.Asked, c.route.Asked = nil, nil
	return a
}

// loadManyElements loads tables of others: a set by the tag's name that no apply wrote,
// one whose first line looks so, and a set beside rules that look it up.
func loadManyElements(t *testing.T) {
	t.Helper()
	var marks []string
	for i := range 3000 {
		marks = append(marks, fmt.Sprint(i+1))
	}
	err := nftLoad(fmt.Sprintf(`
		table inet tagged { set tag { type mark; elements = { %[1]s }; }; }
		table ip ranges { set tag { type ipv4_addr; flags interval; elements = { 10.0.0.0/8 }; }; }
		table ip6 ports { set tag { type inet_service; elements = { 80 }; }; }
		table inet verdicts { map tag { type mark : verdict; elements = { 1 : accept }; }; }
		table ip blocklist {
			set bad { type mark; elements = { %[1]s }; }
			chain in { type filter hook input priority 0; meta mark @bad drop; meta mark { 77, 78 } drop; }
		}`, strings.Join(marks, ", ")))
	if err != nil {
		t.Fatal(err)
	}
}

// TestAsksForNoElements: what a verb does not need it does not ask for. The
// elements of a set can be hundreds of thousands.
func TestAsksForNoElements(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	loUp(t)
	loadManyElements(t)
	must := func(err error) {
		if err != nil {
			t.Helper()
			t.Fatal(err)
		}
	}
	ours := func(set string) bool { return strings.HasPrefix(set, "weir/") || strings.HasPrefix(set, "weir-next/") }
	anonymous := func(set string) bool { return strings.Contains(set, "/__set") }
	tags := func(set string) bool { return strings.HasSuffix(set, "/tag") && set != "tagged/tag" } // of few lines
	for _, tt := range []struct {
		why     string
		do      func(c *Conn) error
		allowed func(set string) bool
	}{
		{"a first apply reads back what it wrote", func(c *Conn) error {
			_, err := c.Session("weir", "test").Apply(t.Context(), captured(1))
			return err
		}, ours},
		{"a replacing apply reads ours", func(c *Conn) error {
			_, err := c.Session("weir", "test").Apply(t.Context(), captured(2))
			return err
		}, ours},
		{"verify reads ours", func(c *Conn) error {
			_, err := c.Read(t.Context(), "weir")
			return err
		}, ours},
		{"who looks at chains and rules reads what is a part of a rule", func(c *Conn) error {
			_, err := c.RulesetWith(t.Context(), func(*LiveTable) bool { return false })
			return err
		}, anonymous},
		{"who looks at one table reads its sets", func(c *Conn) error {
			_, err := c.RulesetWith(t.Context(), func(t *LiveTable) bool { return t.Tag != nil })
			return err
		}, func(set string) bool { return ours(set) || anonymous(set) }},
		{"remove reads none: the table goes, whatever is in it", func(c *Conn) error {
			r, err := c.Session("weir", "test").Remove(t.Context())
			if err == nil && r.Outcome != Removed {
				err = fmt.Errorf("the outcome is %s", r.Outcome)
			}
			return err
		}, func(string) bool { return false }},
	} {
		c := dialKernel(t)
		got := listen(c, func() { must(tt.do(c)) })
		for _, set := range got.elements {
			if !tt.allowed(set) && !tags(set) {
				t.Errorf("%s: set %s was dumped", tt.why, set)
			}
		}
	}
}

// TestSessionAfterRemove: a session that removed without reading elements, and
// failed to or not, reads them before it compares again.
func TestSessionAfterRemove(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	loUp(t)
	if _, err := dialKernel(t).Session("weir", "test").Apply(t.Context(), captured(1)); err != nil {
		t.Fatal(err)
	}
	s := dialKernel(t).Session("weir", "test")
	if err := s.refresh(t.Context(), rules.State{}); err != nil || s.live.covers(everything()) {
		t.Fatalf("elements were read to remove them: %v", err)
	}
	r, err := s.Apply(t.Context(), captured(1))
	if err != nil || r.Outcome != Unchanged {
		t.Errorf("%s, %v, %v", r.Outcome, r.Differences, err)
	}
	for _, want := range []Outcome{Removed, Absent} {
		if r, err := s.Remove(t.Context()); err != nil || r.Outcome != want {
			t.Errorf("%s, %v; want %s", r.Outcome, err, want)
		}
	}
}

// TestTagOfAnotherTable: of a table beside ours the tag is what counts on from 1,
// whatever else a set of its name holds. Of ours all of it is read.
func TestTagOfAnotherTable(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	loUp(t)
	s := dialKernel(t).Session("weir", "test")
	if _, err := s.Apply(t.Context(), captured(1)); err != nil {
		t.Fatal(err)
	}
	written := s.live.Tag
	if len(written.Parts) == 0 {
		t.Fatal("the tag has no parts")
	}
	for _, tt := range []struct {
		why, script string
		whole, ours bool
	}{
		{"an element far behind is not a line", "add element inet weir tag { 1000000 }", true, false},
		{"without it the tag is what it was", "delete element inet weir tag { 1000000 }", true, true},
		{"a line that is gone ends it", "delete element inet weir tag { 3 }", false, false},
	} {
		if err := nftLoad(tt.script); err != nil {
			t.Fatal(err)
		}
		beside, err := dialKernel(t).Read(t.Context(), "other")
		if err != nil || len(beside.otherTags) != 1 {
			t.Fatalf("%s: tags %v, %v", tt.why, beside, err)
		}
		if whole := beside.otherTags[0].says(*written); whole != tt.whole {
			t.Errorf("%s: beside ours it says the same: %t", tt.why, whole)
		}
		ours, err := dialKernel(t).Read(t.Context(), "weir")
		if err != nil || len(ours.Differences(captured(1))) == 0 != tt.ours {
			t.Errorf("%s: ours differs by %v, %v", tt.why, ours.Differences(captured(1)), err)
		}
	}
}
