// SPDX-License-Identifier: Apache-2.0

//go:build linux

package integration

import (
	"context"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weir-mesh/weir/nft"
	"github.com/weir-mesh/weir/rules"
)

// killed are what is killed: changes from a state to another.
var killed = []struct {
	why      string
	from, to int
}{
	{"a first apply", nothingAtAll, 0},
	{"a first apply with routing", nothingAtAll, 2},
	{"elements alone", 0, 4},
	{"other rules", 0, 3},
	{"rules and routing are added", 3, 2},
	{"rules are others, and routing goes elsewhere", 1, 6},
	{"elements are others, and routing goes elsewhere", 1, 5},
	{"routing goes", 2, 0},
	{"a remove", 0, nothingAtAll},
	{"a remove with routing", 6, nothingAtAll},
}

// TestKilled kills applies with SIGKILL at any moment of their work. The rules
// in force are those of before or those of after, whole; verify names what else
// is left; the next apply or remove mends it.
func TestKilled(t *testing.T) {
	n := newNamespace(t)
	k := &killing{namespace: n, s: n.session(), clean: map[int][]string{}, addressesTell: true}
	if !linux(t, 5, 18) {
		t.Log("needs Linux 5.18 for addresses that tell who added them: those that a killed apply leaves are not known as weir's")
		k.addressesTell = false
	}
	before, routing := n.nft("list ruleset"), n.routing()
	rounds := howOften(6, 50)
	if testing.Short() {
		rounds = 2
	}
	for _, p := range killed {
		span := k.length(p.from, p.to)
		seen := map[string]int{}
		for range rounds {
			// Most work is done early; the square looks there more often.
			r := rand.Float64()
			k.round(p.from, p.to, time.Duration(1.25*r*r*float64(span)), seen)
			if t.Failed() {
				t.Fatalf("%s, state %d to %d", p.why, p.from, p.to)
			}
		}
		t.Logf("%s: killed %d times within %s: %v", p.why, rounds, span, seen)
	}
	k.hold(nothingAtAll)
	if d := changed(before, n.nft("list ruleset")); d != "" {
		t.Errorf("changed:\n%s", d)
	}
	if d := changed(routing, n.routing()); d != "" {
		t.Errorf("changed:\n%s", d)
	}
}

type killing struct {
	*namespace
	s     *nft.Session
	clean map[int][]string // the routing of each state, in ip's words, without a kill

	addressesTell bool // of weir's addresses the kernel keeps whose they are
}

// hold makes the namespace hold a state.
func (k *killing) hold(state int) {
	k.Helper()
	if _, err := change(context.Background(), k.s, stateNumber(state)); err != nil {
		k.Fatal(err)
	}
}

// length is how long an apply takes undisturbed, from the order to the answer.
func (k *killing) length(from, to int) time.Duration {
	k.Helper()
	var longest time.Duration
	for range 3 {
		k.hold(from)
		k.clean[from] = k.ours()
		c := k.start("apply")
		c.hear()
		start := time.Now()
		c.apply(to)
		longest = max(longest, time.Since(start))
		k.clean[to] = k.ours()
		c.in.Close()
	}
	return longest
}

func (k *killing) round(from, to int, delay time.Duration, seen map[string]int) {
	k.Helper()
	k.hold(from)
	c := k.start("apply")
	c.hear()
	c.say("apply %d", to)
	for start := time.Now(); time.Since(start) < delay; { // a sleep is too coarse
	}
	_ = c.Process.Kill() // it lives: its input is open
	_ = c.Wait()
	c.forget()

	inForce := k.inForce(from, to)
	seen[map[bool]string{true: "former", false: "new"}[inForce == from]]++
	fresh := k.opened()
	defer fresh.Close()
	said := verify(k, fresh.Session(tableName, "test"), stateNumber(inForce))
	if !k.addressesTell {
		k.dropAddresses(inForce)
	}
	for _, leftover := range k.leftovers(inForce) {
		seen["left "+leftover.what]++
		if !leftover.named.MatchString(said) {
			k.Errorf("%q is left over, and verify says\n%s", leftover.what+" "+leftover.line, said)
		}
	}
	if said != "" {
		seen["with something left"]++
	}

	next := []int{from, to, 7, nothingAtAll}[rand.N(4)]
	k.hold(next)
	wantClean(k, fresh.Session(tableName, "test"), stateNumber(next))
	if tables := k.tables(); len(tables) > 1 {
		k.Errorf("mended, and there are tables %v", tables)
	}
	if want, known := k.clean[next]; known && !slices.Equal(k.ours(), want) {
		k.Errorf("mended, the routing of state %d is\n%s\nwant\n%s", next, strings.Join(k.ours(), "\n"), strings.Join(want, "\n"))
	}
}

// dropAddresses takes away those of weir's addresses that a state does not have, as a person would who finds
// them: a kernel that does not keep whose they are leaves that to them.
func (k *killing) dropAddresses(state int) {
	k.Helper()
	for _, line := range k.ours() {
		if strings.HasPrefix(line, "inet") && !slices.Contains(k.clean[state], line) {
			k.ip("addr del " + strings.Fields(line)[1] + " dev lo")
		}
	}
}

// inForce is which of two states' tables the kernel holds.
func (k *killing) inForce(states ...int) int {
	k.Helper()
	fresh := k.opened()
	defer fresh.Close()
	live, err := fresh.Read(context.Background(), tableName)
	if err != nil {
		k.Fatal(err)
	}
	have := rules.State{Table: live.State.Table}
	for _, i := range states {
		if (rules.State{Table: stateNumber(i).Table}).Equal(have) {
			return i
		}
	}
	k.Fatalf("neither of states %v is in force:\n%s", states, k.nft("list ruleset"))
	return 0
}

type leftover struct {
	what, line string
	named      *regexp.Regexp // how verify is to name it
}

// leftovers are what nft and ip show that a state has not, or lacks.
func (k *killing) leftovers(state int) []leftover {
	k.Helper()
	var all []leftover
	for _, table := range k.tables() {
		if table != "inet "+tableName {
			all = append(all, leftover{"table", table, regexp.MustCompile(`table ` + table)})
		}
	}
	have, want := k.ours(), k.clean[state]
	differ := func(what string, a, b []string) {
		for _, line := range a {
			if slices.Contains(b, line) {
				continue
			}
			switch {
			case strings.HasPrefix(line, "inet"):
				all = append(all, leftover{what + " address", line, regexp.MustCompile(`address[^\n]*\n[^\n]*` + regexp.QuoteMeta(strings.Fields(line)[1]))})
			case strings.Contains(line, "fwmark"):
				all = append(all, leftover{what + " policy rule", line, regexp.MustCompile(`policy rule[^\n]*\n[^\n]*lookup ` + lastNumber(line, "lookup"))})
			default:
				all = append(all, leftover{what + " route", line, regexp.MustCompile(`route[^\n]*\n[^\n]*table ` + lastNumber(line, "table"))})
			}
		}
	}
	differ("needless", have, want)
	differ("missing", want, have)
	return all
}

// lastNumber is the number that follows a word.
func lastNumber(line, word string) string {
	m := regexp.MustCompile(word + ` (\d+)`).FindStringSubmatch(line)
	if m == nil {
		return "no number"
	}
	return m[1]
}
