// SPDX-License-Identifier: Apache-2.0

//go:build linux

package integration

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mdlayher/netlink"
	"github.com/weir-mesh/weir/nft"
	"github.com/weir-mesh/weir/rules"
	"golang.org/x/sys/unix"
)

// change applies a state, or removes what is there where the state is the empty one.
func change(ctx context.Context, s *nft.Session, want rules.State) (nft.Result, error) {
	if want.Table == nil && want.Routing() == nil {
		return s.Remove(ctx)
	}
	return s.Apply(ctx, want)
}

// apply applies and wants that outcome.
func apply(t testing.TB, s *nft.Session, want rules.State, outcome nft.Outcome) nft.Result {
	t.Helper()
	r, err := change(context.Background(), s, want)
	if err != nil {
		t.Fatalf("apply: %v", err)
	}
	if r.Outcome != outcome {
		t.Fatalf("apply: %s, want %s", r.Outcome, outcome)
	}
	return r
}

// verify lists in what the namespace is not as wanted, as verify says it.
func verify(t testing.TB, s *nft.Session, want rules.State) string {
	t.Helper()
	_, differences, err := s.Verify(context.Background(), want)
	if err != nil {
		t.Fatalf("verify: %v", err)
	}
	lines := make([]string, len(differences))
	for i, d := range differences {
		lines[i] = d.String()
	}
	return strings.Join(lines, "\n")
}

func wantClean(t testing.TB, s *nft.Session, want rules.State) {
	t.Helper()
	if d := verify(t, s, want); d != "" {
		t.Fatalf("not as wanted:\n%s", d)
	}
}

// watch listens to every change in the namespace's nftables, and
// returns a function that lists it, one "message set-or-table" a change.
func (n *namespace) watch() func() []string {
	const nftablesGroup = 7 // NFNLGRP_NFTABLES
	names := map[int]string{unix.NFT_MSG_NEWSET: "new set", unix.NFT_MSG_DELSET: "delete set", unix.NFT_MSG_NEWSETELEM: "new element",
		unix.NFT_MSG_DELSETELEM: "delete element", unix.NFT_MSG_NEWGEN: "commit"}
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{NetNS: int(n.file.Fd()), Groups: 1 << (nftablesGroup - 1)})
	if err != nil {
		n.Fatal(err)
	}
	n.Cleanup(func() { c.Close() })
	const enough = 64 << 20 // of 10,000 elements
	raw, err := c.SyscallConn()
	if err = errors.Join(err, c.SetReadBuffer(enough)); err != nil {
		n.Fatal(err)
	}
	return func() []string {
		n.Helper()
		var seen []string
		buf := make([]byte, 1<<16)
		for {
			var size int
			var failed error
			// The kernel queues its notifications before a commit returns.
			err := raw.Control(func(fd uintptr) { size, _, failed = unix.Recvfrom(int(fd), buf, unix.MSG_DONTWAIT) })
			if err == nil && errors.Is(failed, unix.EAGAIN) {
				return seen
			}
			if err == nil && errors.Is(failed, unix.ENOBUFS) && os.Getuid() != 0 {
				n.Log("not all changes are seen: the buffer takes root")
				continue
			}
			msgs, malformed := syscall.ParseNetlinkMessage(buf[:max(size, 0)])
			if err := errors.Join(err, failed, malformed); err != nil {
				n.Fatal(err)
			}
			for _, m := range msgs {
				typ := int(m.Header.Type) & 0xff
				what := names[typ]
				if what == "" {
					what = fmt.Sprintf("message %d", typ)
				}
				if typ != unix.NFT_MSG_NEWGEN {
					what += " " + setName(m.Data[4:])
				}
				seen = append(seen, what)
			}
		}
	}
}

// setName is the second attribute of a set's or an element's message.
func setName(b []byte) string {
	attrs, err := netlink.UnmarshalAttributes(b)
	if err != nil {
		return err.Error()
	}
	for _, a := range attrs {
		if a.Type == 2 { // NFTA_SET_NAME, NFTA_SET_ELEM_LIST_SET
			return strings.TrimRight(string(a.Data), "\x00")
		}
	}
	return ""
}

// outside gives the namespace a way out: a link, an address and default routes
// of both families. Nobody answers.
func (n *namespace) outside() {
	n.Helper()
	n.ip("link add eth0 type veth peer name far0")
	for _, link := range []string{"eth0", "far0"} {
		n.ip("link set " + link + " addrgenmode none") // addresses would come when they please
		n.ip("link set " + link + " up")
	}
	n.ip("addr add 198.18.0.2/24 dev eth0")
	n.ip("route add default via 198.18.0.1")
}

// connect tries to connect from inside, whatever comes of it.
func (n *namespace) connect(addr string) {
	n.Helper()
	n.do(func() error {
		c, err := net.DialTimeout("tcp", addr, 200*time.Millisecond)
		if err == nil {
			return c.Close()
		}
		return nil
	})
}

// counted are the packets that the namespace's counters have seen.
func (n *namespace) counted() string {
	return strings.Join(regexp.MustCompile(`counter packets \d+`).FindAllString(n.nft("list table inet "+tableName), -1), ", ")
}

func TestApplyTwiceSendsNothing(t *testing.T) {
	for why, state := range map[string]rules.State{
		"a sidecar by REDIRECT": capture{}.state(),
		"a verdict map":         capture{verdicts: []rules.Port{80, 443}}.state(),
		"a live set":            capture{live: true}.state(),
		"TPROXY with routing":   capture{tproxy: true}.state(),
		"something of all":      everything(),
		"10,000 prefixes":       capture{exclude: manyPrefixes(10000)}.state(),
		"a table with nothing":  {Table: &rules.Table{Name: tableName}},
		"names of all lengths":  longNames(),
		"nothing at all":        {},
		"routing alone":         {Routes: capture{tproxy: true}.state().Routes, PolicyRules: capture{tproxy: true}.state().PolicyRules},
	} {
		t.Run(why, func(t *testing.T) {
			n := newNamespace(t)
			n.outside()
			s := n.session()
			if state.Table != nil {
				apply(t, s, state, nft.Created)
			} else if len(state.Routes) > 0 {
				apply(t, s, state, nft.Updated)
			}
			n.connect("203.0.113.1:80")
			before, routing, counted := n.nft("list ruleset"), n.routing(), n.counted0(state)
			if state.Table != nil && len(state.Table.Chains) > 0 && !strings.Contains(counted, "packets 1") {
				t.Errorf("the counters saw nothing: %s", counted)
			}
			changes := n.watch()
			idle := nft.Unchanged
			if state.Table == nil && len(state.Routes) == 0 {
				idle = nft.Absent
			}
			apply(t, s, state, idle)           // by one who knows,
			apply(t, n.session(), state, idle) // and by one who must read
			if seen := changes(); len(seen) > 0 {
				t.Errorf("the second apply sent %v", seen)
			}
			if after := n.nft("list ruleset"); after != before || n.routing() != routing {
				t.Errorf("the ruleset was\n%s\nand is\n%s", before, after)
			}
			if state.Table != nil && len(state.Table.Chains) > 0 {
				n.connect("203.0.113.1:80")
				if now := n.counted(); now == counted {
					t.Errorf("the counters stand still: %s", now)
				}
			}
		})
	}
}

// longNames has names, reasons and addresses as long and as many as can be.
func longNames() rules.State {
	s := capture{tproxy: true, table: 1<<32 - 1, passes: prefixes("2001:db8:1111:2222:3333:4444:5555:6666/128", "127.0.1.1/32", "127.0.1.2/32")}.state()
	for _, length := range []int{1, 31, 100, 110, 200, 255} {
		name := strings.Repeat("n", length)
		c := &rules.Chain{Name: name}
		c.Add(strings.Repeat("r", min(length, 128)), rules.Counter{})
		s.Table.Chains = append(s.Table.Chains, c)
		rules.SkUID.AddSet(s.Table, "s"+name[1:], rules.RangeOf(rules.UID(1)))
	}
	return s
}

func (n *namespace) counted0(s rules.State) string {
	if s.Table == nil {
		return ""
	}
	return n.counted()
}

func TestOnlyElementsChange(t *testing.T) {
	ten := manyPrefixes(10000)
	one := netip.MustParsePrefix("30.0.0.1/32")
	for _, tt := range []struct {
		why           string
		before, after rules.State
		changed       []string // sets besides the tag
	}{
		{"one prefix more", capture{}.state(), capture{exclude: []netip.Prefix{one}}.state(), []string{"excluded_ipv4"}},
		{"one prefix less", capture{exclude: []netip.Prefix{one}}.state(), capture{}.state(), []string{"excluded_ipv4"}},
		{"a neighbour, which merges", capture{exclude: []netip.Prefix{one}}.state(), capture{exclude: prefixes("30.0.0.0/32", "30.0.0.1/32")}.state(), []string{"excluded_ipv4"}},
		{"a wider one, which swallows", capture{exclude: []netip.Prefix{one}}.state(), capture{exclude: prefixes("30.0.0.0/8")}.state(), []string{"excluded_ipv4"}},
		{"the end of the space", capture{}.state(), capture{exclude: prefixes("255.255.255.255/32", "ffff::/16")}.state(), []string{"excluded_ipv4", "excluded_ipv6"}},
		{"a port and a user", capture{}.state(), capture{ports: []rules.Port{23, 3306}, proxies: []rules.UID{1}}.state(), []string{"left_ports", "proxies"}},
		{"a verdict more", capture{verdicts: []rules.Port{80}}.state(), capture{verdicts: []rules.Port{80, 443}}.state(), []string{"by_port"}},
		{"all verdicts others", capture{verdicts: []rules.Port{80, 81}}.state(), capture{verdicts: []rules.Port{82}}.state(), []string{"by_port"}},
		{"one among 10,000", capture{exclude: ten}.state(), capture{exclude: append([]netip.Prefix{one}, ten...)}.state(), []string{"excluded_ipv4"}},
		{"10,000 at once", capture{}.state(), capture{exclude: ten}.state(), []string{"excluded_ipv4"}},
	} {
		t.Run(tt.why, func(t *testing.T) {
			n := newNamespace(t)
			n.outside()
			s := n.session()
			apply(t, s, tt.before, nft.Created)
			n.connect("203.0.113.1:80")
			before := n.nft("list table inet " + tableName)
			changes := n.watch()
			start := time.Now()
			r := apply(t, s, tt.after, nft.Updated)
			t.Logf("Session.Apply took %s: read %s, commit %s, verify %s", time.Since(start), r.Read, r.Commit, r.Verify)
			allowed := []string{"commit", "delete set tag", "new set tag", "new element tag"}
			for _, set := range tt.changed {
				allowed = append(allowed, "new element "+set, "delete element "+set)
			}
			for _, change := range slices.Compact(changes()) {
				if !slices.Contains(allowed, change) {
					t.Errorf("%s was sent", change)
				}
			}
			after := n.nft("list table inet " + tableName)
			if a, b := withoutElements(before), withoutElements(after); a != b {
				t.Errorf("more than elements changed: the table was\n%s\nand is\n%s", a, b)
			}
			wantClean(t, n.session(), tt.after)
			apply(t, n.session(), tt.after, nft.Unchanged)
			apply(t, s, tt.after, nft.Unchanged)
			apply(t, s, tt.before, nft.Updated)
			wantClean(t, n.session(), tt.before)
		})
	}
}

// withoutElements is a listing without elements, and without the tag.
func withoutElements(listing string) string {
	listing = regexp.MustCompile(`(?s)elements = \{.*?\}\n`).ReplaceAllString(listing, "")
	return regexp.MustCompile(`(?s)\tset tag \{.*?\n\t\}\n`).ReplaceAllString(listing, "")
}

func TestRemoveLeavesNothing(t *testing.T) {
	n := newNamespace(t)
	before, routing := n.nft("list ruleset"), n.routing()
	s := n.session()
	for _, state := range []rules.State{everything(), capture{}.state(), capture{tproxy: true}.state()} {
		apply(t, s, state, nft.Created)
		r, err := s.Remove(context.Background())
		if err != nil || r.Outcome != nft.Removed {
			t.Fatalf("remove: %s, %v", r.Outcome, err)
		}
		if d := changed(before, n.nft("list ruleset")); d != "" {
			t.Errorf("changed:\n%s", d)
		}
		if d := changed(routing, n.routing()); d != "" {
			t.Errorf("changed:\n%s", d)
		}
		if r, err := s.Remove(context.Background()); err != nil || r.Outcome != nft.Absent {
			t.Errorf("a second remove: %s, %v", r.Outcome, err)
		}
	}
}

// applyOrRemove applies a state, or removes what is there where the state is empty.
func applyOrRemove(s *nft.Session, state rules.State) (err error) {
	if state.Table == nil {
		_, err = s.Remove(context.Background())
		return err
	}
	_, err = s.Apply(context.Background(), state)
	return err
}

func TestEveryStateReplacesEveryOther(t *testing.T) {
	states := map[string]rules.State{
		"nothing":    {},
		"redirect":   capture{}.state(),
		"include":    capture{include: prefixes("10.0.0.0/8", "fd00::/8")}.state(),
		"map":        capture{verdicts: []rules.Port{80}, live: true}.state(),
		"tproxy":     capture{tproxy: true, apart: true, live: true}.state(),
		"everything": everything(),
	}
	n := newNamespace(t)
	s := n.session()
	for from, a := range states {
		for to, b := range states {
			if err := applyOrRemove(s, a); err != nil {
				t.Fatalf("%s: %v", from, err)
			}
			if err := applyOrRemove(s, b); err != nil {
				t.Fatalf("%s, then %s: %v", from, to, err)
			}
			wantClean(t, n.session(), b)
			if b.Table == nil {
				if left := append(n.tables(), n.ours()...); len(left) > 0 {
					t.Errorf("%s, then %s: left behind: %v", from, to, left)
				}
			}
		}
	}
}

// TestAddressServesAtOnce binds to an address as soon as apply is done: one that
// the kernel still holds for tentative refuses that.
func TestAddressServesAtOnce(t *testing.T) {
	n := newNamespace(t)
	s := n.session()
	for range 30 {
		apply(t, s, capture{tproxy: true}.state(), nft.Created)
		n.do(func() error {
			l, err := net.Listen("tcp6", "[::6]:0")
			if err != nil {
				return err
			}
			return l.Close()
		})
		apply(t, s, rules.State{}, nft.Removed)
	}
}

func TestLiveSetsAreKept(t *testing.T) {
	n := newNamespace(t)
	s := n.session()
	apply(t, s, capture{live: true}.state(), nft.Created)
	n.nft("add element inet weir seen { 192.0.2.1 timeout 1h, 192.0.2.2 comment \"by hand\" }")
	for _, next := range []capture{{live: true, ports: []rules.Port{1}}, {live: true, verdicts: []rules.Port{80}}, {live: true, tproxy: true}} {
		wantClean(t, s, capture{live: true}.state())
		before := regexp.MustCompile(`set seen \{ # handle \d+`).FindString(n.nft("list table inet weir"))
		if _, err := s.Apply(context.Background(), next.state()); err != nil {
			t.Fatal(err)
		}
		set := n.nft("list set inet weir seen")
		if !strings.Contains(set, "192.0.2.1") || !strings.Contains(set, `192.0.2.2 expires`) && !strings.Contains(set, `192.0.2.2 comment "by hand"`) {
			t.Errorf("elements of a live set are gone:\n%s", set)
		}
		if after := n.nft("list table inet weir"); !strings.Contains(after, before) {
			t.Errorf("the live set was %q and is now of\n%s", before, after)
		}
		if _, err := s.Apply(context.Background(), capture{live: true}.state()); err != nil {
			t.Fatal(err)
		}
	}
}
