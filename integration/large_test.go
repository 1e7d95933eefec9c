// SPDX-License-Identifier: Apache-2.0

//go:build linux

package integration

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/weir-mesh/weir/nft"
	"github.com/weir-mesh/weir/rules"
	"golang.org/x/sys/unix"
)

// large are states that need large batches and many answers. They are made where they are
// wanted: every child of a test starts the test's program.
func large() []largeState {
	return []largeState{
		{"10,000 prefixes", capture{exclude: manyPrefixes(10_000)}.state()},
		{"50,000 prefixes", capture{exclude: manyPrefixes(50_000)}.state()},
		{"50,000 other prefixes and other rules", capture{exclude: manyPrefixes(60_000)[10_000:], rules: 1}.state()},
		{"1,500 rules", capture{rules: 1500}.state()},
		{"3,000 rules and 10,000 prefixes", capture{rules: 3000, exclude: manyPrefixes(10_000)}.state()},
	}
}

type largeState struct {
	why   string
	state rules.State
}

// applyLarge applies each to the namespace that c works in, and says how long
// it took.
func applyLarge(c *nft.Conn, say func(format string, args ...any)) error {
	for _, l := range large() {
		s := c.Session(tableName, "test")
		start := time.Now()
		r, err := s.Apply(context.Background(), l.state)
		took := time.Since(start)
		if err != nil {
			return fmt.Errorf("%s: %w", l.why, err)
		}
		_, d, err := s.Verify(context.Background(), l.state)
		if err != nil || len(d) > 0 {
			return fmt.Errorf("%s: verify: %v, %w", l.why, d, err)
		}
		say("%s: %s in %s: read %s, commit %s, verify %s", l.why, r.Outcome, took, r.Read, r.Commit, r.Verify)
	}
	return nil
}

func TestLarge(t *testing.T) {
	n := newNamespace(t)
	if err := applyLarge(n.conn(), t.Logf); err != nil {
		t.Fatal(err)
	}
}

// TestLargeInUserNamespace applies them where CAP_NET_ADMIN reaches the network
// namespace alone, as for `unshare -Urn`: the send buffer is then as large as
// net.core.wmem_max allows, and what does not fit is refused with that word.
func TestLargeInUserNamespace(t *testing.T) {
	newNamespace(t) // or skip
	c := newChild(t, "large")
	c.SysProcAttr = isolation(true)
	if err := c.Start(); err != nil {
		t.Skipf("no user namespace can be made: %v", err)
	}
	for {
		line := c.hear()
		t.Log(line)
		if strings.HasPrefix(line, "the limit: ") {
			return
		}
	}
}

// playLarge applies ever larger states in its own namespace, until one does not
// fit.
func playLarge() error {
	c, err := nft.Open(0)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := applyLarge(c, func(format string, args ...any) { fmt.Printf(format+"\n", args...) }); err != nil {
		return err
	}
	text, err := os.ReadFile("/proc/sys/net/core/wmem_max") // which older kernels do not show here
	wmem, _ := strconv.Atoi(strings.TrimSpace(string(text)))
	const elementSize = 40 // bytes that a prefix takes in a batch
	prefixes := 2*wmem/elementSize + 100_000
	if err != nil || prefixes > 1<<20 {
		fmt.Printf("the limit: too far away, net.core.wmem_max is %d\n", wmem)
		return nil
	}
	s := c.Session(tableName, "test")
	states := large()
	former := states[len(states)-1].state
	_, err = s.Apply(context.Background(), capture{exclude: manyPrefixes(prefixes)}.state())
	if !errors.Is(err, unix.EMSGSIZE) || !strings.Contains(err.Error(), "net.core.wmem_max") {
		return fmt.Errorf("%d prefixes: not the error that was meant: %w", prefixes, err)
	}
	if _, d, verr := s.Verify(context.Background(), former); verr != nil || len(d) > 0 {
		return fmt.Errorf("after %w: %v, %w", err, d, verr)
	}
	fmt.Printf("the limit: net.core.wmem_max is %d, %d prefixes: %v\n", wmem, prefixes, err)
	return nil
}

// TestNoise applies while another commits to a table of its own all the time:
// every reading and every guard can meet that.
func TestNoise(t *testing.T) {
	many := []rules.State{capture{exclude: manyPrefixes(10_000)}.state(), capture{exclude: manyPrefixes(10_001), rules: 1}.state()}
	for _, tt := range []struct {
		why    string
		pause  time.Duration
		states []rules.State
	}{
		{"200 commits a second", 5 * time.Millisecond, contenders()},
		{"1,000 commits a second", time.Millisecond, contenders()},
		{"10,000 prefixes and 2 commits a second", 500 * time.Millisecond, many},
	} {
		t.Run(tt.why, func(t *testing.T) {
			n := newNamespace(t)
			stop := n.noise(tt.pause)
			s := n.session()
			start := time.Now()
			rounds := howOften(6, 60)
			var longest time.Duration
			for i := range rounds {
				want := tt.states[i*5%len(tt.states)]
				began := time.Now()
				if _, err := s.Apply(context.Background(), want); err != nil {
					t.Fatalf("after %s: %v", time.Since(began), err)
				}
				longest = max(longest, time.Since(began))
				wantClean(t, n.session(), want)
			}
			took := time.Since(start)
			t.Logf("%d applies in %s, the longest %s, during %d commits of another", rounds, took, longest, stop())
		})
	}
}

// TestDeafeningNoise lets another commit as fast as it can, faster than anything
// can be read: an apply succeeds, or gives up in time and leaves all as it was.
func TestDeafeningNoise(t *testing.T) {
	n := newNamespace(t)
	s := n.session()
	former, want := stateNumber(1), stateNumber(6)
	apply(t, s, former, nft.Created)
	stop := n.noise(0)
	start := time.Now()
	_, err := s.Apply(context.Background(), want)
	t.Logf("%v after %s and %d commits of another", err, time.Since(start), stop())
	switch {
	case err == nil:
		wantClean(t, n.session(), want)
	case errors.Is(err, nft.ErrChanged) && time.Since(start) < time.Minute:
		wantClean(t, n.session(), former)
	default:
		t.Error(err)
	}
	if left := n.tables(); len(left) != 1 {
		t.Errorf("there are tables %v", left)
	}
}

// noise commits to a table of another's until it is told to stop, and then
// tells how often it did.
func (n *namespace) noise(pause time.Duration) (stop func() int64) {
	n.Helper()
	c, err := nftables.New(nftables.WithNetNSFd(int(n.file.Fd())), nftables.AsLasting())
	if err != nil {
		n.Fatal(err)
	}
	table := c.AddTable(&nftables.Table{Name: "noise", Family: nftables.TableFamilyINet})
	set := &nftables.Set{Table: table, Name: "s", KeyType: nftables.TypeInetService}
	if err := errors.Join(c.AddSet(set, nil), c.Flush()); err != nil {
		n.Fatal(err)
	}
	var commits atomic.Int64
	over, done := make(chan struct{}), make(chan error, 1)
	go func() {
		element := []nftables.SetElement{{Key: []byte{0, 80}}}
		for {
			select {
			case <-over:
				done <- c.CloseLasting()
				return
			default:
			}
			err := c.SetAddElements(set, element)
			if commits.Add(1)%2 == 0 {
				err = c.SetDeleteElements(set, element)
			}
			if err = errors.Join(err, c.Flush()); err != nil {
				done <- err
				return
			}
			time.Sleep(pause)
		}
	}()
	for commits.Load() < 10 && len(done) == 0 {
		time.Sleep(time.Millisecond)
	}
	finish := func() {
		close(over)
		if err := <-done; err != nil {
			n.Errorf("the noise: %v", err)
		}
	}
	once := sync.OnceFunc(finish)
	n.Cleanup(once)
	return func() int64 { once(); return commits.Load() }
}
