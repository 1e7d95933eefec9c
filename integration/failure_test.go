// SPDX-License-Identifier: Apache-2.0

//go:build linux

package integration

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/weir-mesh/weir/nft"
	"github.com/weir-mesh/weir/rules"
	"golang.org/x/sys/unix"
)

// snapshot is all that a failed apply must leave as it was.
func (n *namespace) snapshot() string {
	n.Helper()
	return n.nft("list ruleset") + n.routing()
}

// TestFailureLeavesTheFormerState makes applies fail at their routing. What a
// kernel refuses of nftables is tested within package nft.
func TestFailureLeavesTheFormerState(t *testing.T) {
	noIPv6 := func(n *namespace) {
		n.do(func() error { return os.WriteFile("/proc/sys/net/ipv6/conf/lo/disable_ipv6", []byte("1"), 0) })
	}
	for _, tt := range []struct {
		why     string
		prepare func(*namespace)
		want    rules.State
		errno   unix.Errno
		says    []string
	}{
		{"an address where lo has no IPv6", noIPv6, capture{tproxy: true}.state(), unix.EACCES, []string{"::6/128", "net.ipv6.conf.lo.disable_ipv6"}},
		{"a route where lo has no IPv6", noIPv6, withoutAddress(capture{tproxy: true}.state()), unix.EACCES, []string{"ip -6 route add", "net.ipv6.conf.lo.disable_ipv6"}},
		{"a route where lo is down", func(n *namespace) { n.ip("link set lo down") }, withoutAddress(capture{tproxy: true}.state()), unix.ENETDOWN, []string{"route add local default dev lo", "lo is down"}},
		{"a route in whose place another's is", func(n *namespace) { n.ip("route add unreachable default table 133") }, onlyIPv4(capture{tproxy: true}.state()), unix.EEXIST,
			[]string{"ip route add local default dev lo table 133", "another program's stands in its place"}},
		{"an address that another gave another length", func(n *namespace) {
			n.ip("addr add ::6/64 dev lo")
			eventually(n, "the address is no longer tentative", func() bool { return !strings.Contains(n.routing(), " tentative") })
		}, capture{tproxy: true}.state(), unix.EEXIST,
			[]string{"ip address add ::6/128 dev lo", "another program's stands in its place"}},
	} {
		for _, former := range []struct {
			why   string
			state rules.State
		}{
			{"from nothing", rules.State{}},
			{"from another state", capture{}.state()},
			{"from a state with routing", onlyIPv4(capture{tproxy: true, table: 140}.state())},
		} {
			t.Run(tt.why+" "+former.why, func(t *testing.T) {
				n := newNamespace(t)
				s := n.session()
				if _, err := change(context.Background(), s, former.state); err != nil {
					t.Fatal(err)
				}
				tt.prepare(n)
				before := n.snapshot()
				_, err := s.Apply(context.Background(), tt.want)
				if err == nil {
					t.Fatal("this kernel takes it")
				}
				t.Log(err)
				for _, word := range tt.says {
					if !strings.Contains(err.Error(), word) {
						t.Errorf("the error does not say %q: %v", word, err)
					}
				}
				if !errors.Is(err, tt.errno) {
					t.Errorf("the error is no %v: %v", tt.errno, err)
				}
				if d := changed(withoutHandles(before), withoutHandles(n.snapshot())); d != "" {
					t.Errorf("changed:\n%s", d)
				}
				apply(t, n.session(), capture{}.state(), map[string]nft.Outcome{"from nothing": nft.Created, "from another state": nft.Unchanged, "from a state with routing": nft.Replaced}[former.why])
			})
		}
	}
}

func withoutAddress(s rules.State) rules.State {
	s.Addresses = nil
	return s
}

// onlyIPv4 leaves of the routing what needs no IPv6.
func onlyIPv4(s rules.State) rules.State {
	s.PolicyRules, s.Routes, s.Addresses = s.PolicyRules[:1], s.Routes[:1], nil
	return s
}

func withoutHandles(listing string) string { return handles.ReplaceAllString(listing, "") }

// countdown is a context that is cancelled when it has been asked so many times.
type countdown struct {
	context.Context
	left int
}

func (c *countdown) Err() error {
	if c.left--; c.left < 0 {
		return context.Canceled
	}
	return nil
}

// TestCancelledAtEveryStep cancels the context before each request of an apply
// in turn. What is in force is the former state, with nothing left over, or,
// once it is too late, the wanted one.
func TestCancelledAtEveryStep(t *testing.T) {
	for _, tt := range []struct {
		why          string
		former, want rules.State
	}{
		{"a first apply with routing", rules.State{}, contenders()[2]},
		{"other rules and other routing", contenders()[2], contenders()[5]},
		{"elements alone", contenders()[0], contenders()[4]},
		{"a remove with routing", contenders()[2], rules.State{}},
	} {
		t.Run(tt.why, func(t *testing.T) {
			n := newNamespace(t)
			if _, err := change(context.Background(), n.session(), tt.former); err != nil {
				t.Fatal(err)
			}
			before := withoutHandles(n.snapshot())
			for steps := 0; ; steps++ {
				_, err := change(&countdown{context.Background(), steps}, n.session(), tt.want)
				if err == nil {
					wantClean(t, n.session(), tt.want)
					if left := n.tables(); len(left) > 1 {
						t.Errorf("after %d steps there are tables %v", steps, left)
					}
					t.Logf("cancelled before each of %d requests", steps)
					return
				}
				if !errors.Is(err, context.Canceled) {
					t.Fatalf("after %d steps: %v", steps, err)
				}
				if d := changed(before, withoutHandles(n.snapshot())); d != "" {
					t.Fatalf("cancelled after %d steps:\n%s", steps, d)
				}
			}
		})
	}
}

// TestCancelledAtAnyTime cancels by the clock.
func TestCancelledAtAnyTime(t *testing.T) {
	n := newNamespace(t)
	s := n.session()
	states := contenders()
	held := rules.State{}
	cancelled := 0
	for i := range howOften(60, 1000) {
		want := states[i*5%len(states)]
		ctx, cancel := context.WithTimeout(context.Background(), time.Duration(i%30)*200*time.Microsecond)
		_, err := s.Apply(ctx, want)
		cancel()
		switch {
		case err == nil:
			held = want
		case !errors.Is(err, context.DeadlineExceeded):
			t.Fatal(err)
		default:
			cancelled++
		}
		wantClean(t, n.session(), held)
		if left := n.tables(); len(left) > 1 {
			t.Fatalf("there are tables %v", left)
		}
	}
	t.Logf("%d were cancelled", cancelled)
}

// TestNotPermitted runs without CAP_NET_ADMIN over the namespace.
func TestNotPermitted(t *testing.T) {
	n := newNamespace(t)
	apply(t, n.session(), capture{}.state(), nft.Created)
	before := n.snapshot()
	c := newChild(n, "unable")
	c.SysProcAttr = isolation(true)
	c.SysProcAttr.Cloneflags = unix.CLONE_NEWUSER // and the network namespace stays
	if err := n.try(c.Start); err != nil {
		t.Skipf("no user namespace can be made: %v", err)
	}
	for range 4 {
		if line := c.hear(); !strings.HasPrefix(line, "as it should: ") {
			t.Error(line)
		} else {
			t.Log(line)
		}
	}
	if d := changed(before, n.snapshot()); d != "" {
		t.Errorf("changed:\n%s", d)
	}
}

// playUnable tries every verb, and says how it fails.
func playUnable() error {
	tell := func(verb string, err error) {
		if errors.Is(err, nft.ErrNotPermitted) && errors.Is(err, unix.EPERM) && strings.Contains(err.Error(), "CAP_NET_ADMIN") {
			fmt.Printf("as it should: %s: %v\n", verb, err)
			return
		}
		fmt.Printf("%s: %v\n", verb, err)
	}
	c, err := nft.Open(0)
	if err != nil {
		return err
	}
	defer c.Close()
	ctx := context.Background()
	s := c.Session(tableName, "test")
	_, err = s.Apply(ctx, capture{tproxy: true}.state())
	tell("apply", err)
	_, err = s.Remove(ctx)
	tell("remove", err)
	_, _, err = s.Verify(ctx, capture{}.state())
	tell("verify", err)
	_, err = c.Read(ctx, tableName)
	tell("read", err)
	return nil
}
