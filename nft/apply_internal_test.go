// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nft

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"github.com/weir-mesh/weir/internal/reserved"
	"github.com/weir-mesh/weir/rules"
	"golang.org/x/sys/unix"
)

// captured is a state with rules, a set and routing; variants differ in all
// three.
func captured(variant int) rules.State {
	t := &rules.Table{Name: "weir"}
	uids := rules.SkUID.AddSet(t, "uids", rules.RangeOf(rules.UID(1337)), rules.RangeOf(rules.UID(2000+variant)))
	out := &rules.Chain{Name: "output", Base: &rules.Base{Type: rules.NATType, Hook: rules.Output, Priority: rules.PriorityDstNAT}}
	out.Add("the proxy's own traffic leaves as it is", rules.SkUID.InSet(uids), rules.Return())
	out.Add("everything else goes to the proxy", rules.L4Proto.Is(rules.TCP), rules.RedirectTo(rules.Port(15001+variant%2)))
	t.Chains = append(t.Chains, out)
	s := rules.State{Table: t}
	for _, f := range []rules.Family{rules.IPv4, rules.IPv6} {
		table := uint32(133 + variant%3)
		s.PolicyRules = append(s.PolicyRules, rules.PolicyRule{Family: f, Priority: 100, Mark: 1, Mask: 1, Table: table})
		any := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		if f == rules.IPv6 {
			any = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
		}
		s.Routes = append(s.Routes, rules.Route{Family: f, Table: table, Dst: any})
	}
	if variant%2 == 0 {
		s.Addresses = []netip.Prefix{netip.MustParsePrefix("::6/128")}
	}
	return s
}

// opaqueOf makes an opaque node of one expression.
func opaqueOf(name string, expression []byte) rules.Opaque {
	return rules.Opaque{Name: name, Raw: rules.Bits(attribute{typ: unix.NLA_F_NESTED | unix.NFTA_LIST_ELEM, data: expression}.appendTo(nil))}
}

// unheardOf is an expression that no kernel has.
func unheardOf() rules.Opaque {
	return opaqueOf("warp", encode(func(ae *netlink.AttributeEncoder) { ae.String(unix.NFTA_EXPR_NAME, "warp") }))
}

// loUp brings the loopback up, without which it takes no routes.
func loUp(t *testing.T) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	request, err := unix.NewIfreq("lo")
	if err != nil {
		t.Fatal(err)
	}
	request.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, request); err != nil {
		t.Fatal(err)
	}
}

// unchecked is Apply without the check that refuses opaque nodes.
func (s *Session) unchecked(t *testing.T, want rules.State) error {
	_, err := s.settle(t.Context(), want.Normal())
	return err
}

// wantLive reads the namespace anew, and wants it to hold a state and nothing
// of an apply's helpers.
func wantLive(t *testing.T, want rules.State) {
	t.Helper()
	live, err := dialKernel(t).Read(t.Context(), "weir")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range live.Differences(want) {
		t.Error(d)
	}
	if live.Leftover || live.busy() {
		t.Errorf("left over: next %t, lock %t", live.Leftover, live.busy())
	}
}

// TestRejectedRule asks for an expression that the kernel has not, from nothing
// and from another state. The error names the rule with its reason, the
// kernel's errno and the option; all is as before, and the connection works on.
func TestRejectedRule(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	loUp(t)
	features["warp"] = "CONFIG_NFT_WARP"
	for _, former := range []rules.State{{}, captured(1)} {
		s := dialKernel(t).Session("weir", "test")
		if _, err := s.change(t.Context(), former); err != nil {
			t.Fatal(err)
		}
		want := captured(2)
		out := want.Table.Chain("output")
		out.Rules = out.Rules[:1]
		out.Add("faster than light", rules.OIfName.Not("lo"), rules.TCPDport.In(1, 2), rules.Counter{}, unheardOf(), rules.Return())
		for i := range 100 { // the kernel answers for each of them
			out.Add(fmt.Sprintf("faster still, %d", i), unheardOf(), rules.Return())
		}
		err := s.unchecked(t, want)
		var rejected *RejectedError
		if !errors.As(err, &rejected) {
			t.Fatalf("rejected, with %v", err)
		}
		if got, want := err.Error(), `chain output rule 2 "faster than light": no such file or directory (this kernel has no warp: CONFIG_NFT_WARP)`; got != want {
			t.Errorf("the error is\n%s\nwant\n%s", got, want)
		}
		if !errors.Is(err, unix.ENOENT) || rejected.Where != `chain output rule 2 "faster than light"` {
			t.Errorf("%#v", rejected)
		}
		wantLive(t, former)
		if _, err := s.Apply(t.Context(), captured(4)); err != nil {
			t.Errorf("the same session afterwards: %v", err)
		}
		wantLive(t, captured(4))
		if _, err := s.Remove(t.Context()); err != nil {
			t.Fatal(err)
		}
		wantLive(t, rules.State{})
	}
}

// TestTakenDifferently wants a rule that a kernel takes, and reads back as
// another: the difference is the error, and the former state is back.
func TestTakenDifferently(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	loUp(t)
	counter := opaqueOf("counter", marshal(&expr.Counter{}))
	for _, former := range []rules.State{{}, captured(1)} {
		s := dialKernel(t).Session("weir", "test")
		if _, err := s.change(t.Context(), former); err != nil {
			t.Fatal(err)
		}
		want := captured(2)
		want.Table.Chain("output").Add("this counts", counter, rules.Return())
		err := s.unchecked(t, want)
		var drift *DriftError
		if !errors.As(err, &drift) {
			t.Fatalf("no drift: %v", err)
		}
		for _, word := range []string{`chain output rule 3 "this counts" differs`, "<unknown: counter>", "counter return"} {
			if !strings.Contains(err.Error(), word) {
				t.Errorf("the error does not say %q: %v", word, err)
			}
		}
		wantLive(t, former)
		if _, err := s.Remove(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// TestOdditiesComeBack: what another program changed of our routing is as it was after an
// apply that is refused, or taken differently.
func TestOdditiesComeBack(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	loUp(t)
	routing := func() (all string) {
		for _, args := range []string{"rule", "-6 rule", "route show table all", "-6 route show table all"} {
			out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			all += string(out)
		}
		return all
	}
	s := dialKernel(t).Session("weir", "test")
	for _, former := range []rules.State{{}, captured(1)} {
		if _, err := s.change(t.Context(), former); err != nil {
			t.Fatal(err)
		}
		ipRoute(t, "rule add priority 7 fwmark 0x5 uidrange 5-6 lookup 77 protocol 119", "-6 rule add priority 8 iif lo lookup 77 protocol 119",
			"route add blackhole 192.0.2.0/24 table 77 protocol 119", "route add local 198.51.100.0/24 dev lo src 127.0.0.1 metric 9 table 134 protocol 119",
			"-6 route add 2001:db8::/32 dev lo table 77 protocol 119")
		before := routing()
		for _, node := range []rules.Node{unheardOf(), opaqueOf("counter", marshal(&expr.Counter{}))} {
			want := captured(2)
			want.Table.Chain("output").Add("", node, rules.Return())
			if err := s.unchecked(t, want); err == nil {
				t.Error("it is taken")
			}
			if after := routing(); after != before {
				t.Errorf("the routing was\n%s\nand is\n%s", before, after)
			}
		}
		if _, err := s.Apply(t.Context(), captured(2)); err != nil {
			t.Fatal(err)
		}
		wantLive(t, captured(2))
		if _, err := s.Remove(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRestore puts a state back, with its tag, after elements of it changed.
func TestRestore(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	loUp(t)
	s := dialKernel(t).Session("weir", "test")
	former := captured(1)
	if _, err := s.change(t.Context(), former); err != nil {
		t.Fatal(err)
	}
	w := &work{Session: s, want: captured(7).Normal(), former: s.live, generation: s.live.generation, start: time.Now()}
	change := s.live.routing.change(w.want, s.live.Tag)
	if err := errors.Join(dialKernel(t).removeRouting(t.Context(), change.remove), nftLoad("flush set inet weir uids")); err != nil {
		t.Fatal(err)
	}
	w.generation++ // by the flush
	if err := w.restore(t.Context(), change); err != nil {
		t.Fatal(err)
	}
	wantLive(t, former)
	if err := nftLoad("flush set inet weir uids"); err != nil {
		t.Fatal(err)
	}
	if err := w.restore(t.Context(), change); !errors.Is(err, errGeneration) {
		t.Errorf("it is put back over what another program wrote: %v", err)
	}
}

// TestWithoutLock races as on a kernel that has no tables with owners.
func TestWithoutLock(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	loUp(t)
	applies := 15
	if testing.Short() {
		applies = 5
	}
	var group sync.WaitGroup
	for i := range 6 {
		c := dialKernel(t)
		group.Go(func() {
			s := c.Session("weir", "test")
			s.lockOK = false
			for k := range applies {
				if _, err := s.Apply(t.Context(), captured((i*5+k)%8)); err != nil {
					t.Errorf("apply: %v", err)
				}
			}
		})
	}
	group.Wait()
	live, err := dialKernel(t).Read(t.Context(), "weir")
	if err != nil {
		t.Fatal(err)
	}
	for i := range 8 {
		if len(live.Differences(captured(i))) == 0 {
			return
		}
	}
	t.Errorf("the namespace holds the state of none: %v", live.Differences(captured(0)))
}

// TestFirstAppliesRace has several programs find nothing, again and again, each
// with rules and routing of its own: one of the states holds whole.
func TestFirstAppliesRace(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	loUp(t)
	const programs = 5
	rounds := 40
	if testing.Short() {
		rounds = 5
	}
	conns := make([]*Conn, programs)
	for i := range conns {
		conns[i] = dialKernel(t)
	}
	for round := range rounds {
		var group sync.WaitGroup
		for i, c := range conns {
			group.Go(func() {
				r, err := c.Session("weir", "test").Apply(t.Context(), captured((round+i)%8))
				if err != nil || r.Outcome != Created && r.Outcome != Replaced && r.Outcome != Updated {
					t.Errorf("apply: %s, %v", r.Outcome, err)
				}
			})
		}
		group.Wait()
		live, err := conns[0].Read(t.Context(), "weir")
		if err != nil {
			t.Fatal(err)
		}
		holds := slices.ContainsFunc(conns, func(c *Conn) bool {
			return len(live.Differences(captured((round+slices.Index(conns, c))%8))) == 0
		})
		if !holds {
			t.Fatalf("round %d: the namespace holds the state of none: %v", round, live.Differences(captured(round%8)))
		}
		if _, err := conns[round%programs].Session("weir", "test").Remove(t.Context()); err != nil {
			t.Fatal(err)
		}
		left, err := conns[0].Read(t.Context(), "weir")
		if err != nil {
			t.Fatal(err)
		}
		if left.any() {
			t.Fatalf("round %d: a remove leaves %v", round, left.Differences(rules.State{}))
		}
	}
}

// TestTablesBesideEachOther: what one table's tag tells of, no other table's
// apply or remove takes away.
func TestTablesBesideEachOther(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	loUp(t)
	c := dialKernel(t)
	mesh, weir := c.Session("mesh", "test"), c.Session("weir", "test")
	apply := func(s *Session, want rules.State, outcome Outcome) {
		t.Helper()
		if r, err := s.change(t.Context(), want); err != nil || r.Outcome != outcome {
			t.Fatalf("%s, %v; want %s", r.Outcome, err, outcome)
		}
	}
	holds := func(name string, want rules.State) {
		t.Helper()
		live, err := dialKernel(t).Read(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		if d := live.Differences(want); len(d) > 0 {
			t.Errorf("table %s: %v", name, d)
		}
	}
	apply(mesh, named("mesh", 2), Created)
	apply(weir, rules.State{}, Absent)
	holds("mesh", named("mesh", 2))
	apply(weir, named("weir", 1), Created) // routing in another table of routes, and no address
	holds("mesh", named("mesh", 2))
	apply(weir, named("weir", 3), Updated)
	holds("weir", named("weir", 3))
	holds("mesh", named("mesh", 2))
	apply(mesh, rules.State{}, Removed)
	holds("weir", named("weir", 3))
	apply(weir, rules.State{}, Removed)
	live, err := c.Read(t.Context(), "weir")
	if err != nil || live.any() {
		t.Errorf("left: %v, %v", live.Differences(rules.State{}), err)
	}
}

// TestAnothersHelperStays has one find what a killed apply left, and lose the
// lock to another, who takes that away and puts up its own.
func TestAnothersHelperStays(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	loUp(t)
	s := dialKernel(t).Session("weir", "test")
	if _, err := s.Apply(t.Context(), captured(1)); err != nil {
		t.Fatal(err)
	}
	next := *captured(2).Normal().Table
	next.Name = reserved.Next(next.Name)
	putUp := func(c *Conn) {
		t.Helper()
		b := &batch{}
		removeTable(b, next.Name)
		addWhole(b, &next, newTag(captured(2).Normal(), "test", nil, nil))
		if err := c.commit(t.Context(), b, 0); err != nil {
			t.Fatal(err)
		}
	}
	putUp(s.conn)
	want := captured(3).Normal()
	if err := s.refresh(t.Context(), want); err != nil || !s.live.Leftover {
		t.Fatalf("left over: %t, %v", s.live.Leftover, err)
	}
	live := s.live
	late := &work{Session: s, want: want, former: live, generation: live.generation, start: time.Now(), next: true, contrasts: live.contrast(want)}
	other := dialKernel(t).Session("weir", "test")
	faster := &work{Session: other, former: &Live{}, generation: live.generation, start: time.Now()}
	if _, err := faster.lock(t.Context(), routingChange{}); err != nil || !faster.held {
		t.Skipf("this kernel has no tables with owners: %v", err)
	}
	putUp(other.conn)
	if _, err := late.do(t.Context(), live.routing.change(want, live.Tag)); !errors.Is(err, errGeneration) {
		t.Errorf("the lock is another's: %v", err)
	}
	if list := nftList(t, "tables"); !strings.Contains(list, next.Name) {
		t.Errorf("the other's helper table is gone:\n%s", list)
	}
}

// named is a captured state of a table by another name.
func named(name string, variant int) rules.State {
	s := captured(variant)
	s.Table.Name = name
	return s
}

// TestRoutingInTheMaking has another table's apply meet policy rules and routes
// that no tag tells of yet.
func TestRoutingInTheMaking(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	defer func(d time.Duration) { patience = d }(patience)
	loUp(t)
	mesh, weir := dialKernel(t).Session("mesh", "test"), dialKernel(t).Session("weir", "test")
	if _, err := mesh.Apply(t.Context(), named("mesh", 1)); err != nil {
		t.Fatal(err)
	}
	want := named("mesh", 2).Normal()
	if err := mesh.refresh(t.Context(), want); err != nil {
		t.Fatal(err)
	}
	live := mesh.live
	w := &work{Session: mesh, want: want, former: live, generation: live.generation, start: time.Now(), contrasts: live.contrast(want)}
	change, err := w.lock(t.Context(), routingChange{})
	if err != nil || !w.held {
		t.Skipf("this kernel has no tables with owners: %v", err)
	}
	if _, err := mesh.conn.addRouting(t.Context(), change.add); err != nil {
		t.Fatal(err)
	}
	patience = 50 * time.Millisecond
	if _, err := weir.Apply(t.Context(), captured(1)); !errors.Is(err, ErrChanged) {
		t.Errorf("another holds the lock: %v", err)
	}
	r, err := mesh.conn.readRouting(t.Context(), want, nil)
	if err != nil {
		t.Fatal(err)
	}
	if left := r.change(want, live.Tag).add.Routing(); len(left) > 0 {
		t.Errorf("what was added is gone: %v", left)
	}
}

// TestTablesRace has several programs apply side by side, each its own table,
// from nothing and again: every one holds at the end.
func TestTablesRace(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	loUp(t)
	names := []string{"mesh", "weir", "third"}
	for range 5 {
		var group sync.WaitGroup
		for i, name := range names {
			s := dialKernel(t).Session(name, "test")
			group.Go(func() {
				for k := range 3 {
					if _, err := s.Apply(t.Context(), named(name, i+3*k)); err != nil {
						t.Errorf("apply %s: %v", name, err)
					}
				}
			})
		}
		group.Wait()
		for i, name := range names {
			s := dialKernel(t).Session(name, "test")
			live, err := s.conn.Read(t.Context(), name)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range live.Differences(named(name, i+6)) {
				t.Errorf("table %s: %s", name, d)
			}
		}
		for _, name := range names {
			if _, err := dialKernel(t).Session(name, "test").Remove(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestPatienceEnds holds the lock for longer than an apply waits: an apply goes on
// without it, and names who holds it.
func TestPatienceEnds(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	defer func(d time.Duration) { lockPatience = d }(lockPatience)
	lockPatience = 50 * time.Millisecond
	loUp(t)
	holder := dialKernel(t).Session("weir", "test")
	w := &work{Session: holder, former: &Live{}, start: time.Now()}
	if _, err := w.lock(t.Context(), routingChange{}); err != nil || !w.held {
		t.Skipf("this kernel has no tables with owners: %v", err)
	}
	s := dialKernel(t).Session("weir", "test")
	start := time.Now()
	result, err := s.Apply(t.Context(), captured(1))
	if err != nil || result.LockHeld == nil || result.LockHeld.PID != os.Getpid() || result.Outcome != Created {
		t.Errorf("another holds the lock: %+v, %v", result, err)
	}
	if waited := time.Since(start); waited < lockPatience || waited > patience {
		t.Errorf("it waited %s", waited)
	}
	if !s.lockOK {
		t.Error("the next apply would do without the lock too")
	}
	if err := holder.conn.Close(); err != nil { // as when its process ends
		t.Fatal(err)
	}
	if result, err := s.Apply(t.Context(), captured(2)); err != nil || result.LockHeld != nil {
		t.Errorf("the lock's holder is gone: %+v, %v", result, err)
	}
}

// change applies a state, or removes what is there where the state is the empty one.
func (s *Session) change(ctx context.Context, want rules.State) (Result, error) {
	if nothing(want) {
		return s.Remove(ctx)
	}
	return s.Apply(ctx, want)
}

// TestApplyRefusesTheEmptyState: a configuration with a mistake makes one, and must
// remove nothing.
func TestApplyRefusesTheEmptyState(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	loUp(t)
	s := dialKernel(t).Session("weir", "test")
	if _, err := s.Apply(t.Context(), captured(1)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Apply(t.Context(), rules.State{}); !errors.Is(err, ErrEmptyState) {
		t.Errorf("an empty state: %v", err)
	}
	wantLive(t, captured(1))
}
