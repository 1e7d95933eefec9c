// SPDX-License-Identifier: Apache-2.0

//go:build linux

package integration

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"slices"
	"strings"

	"github.com/weir-mesh/weir/netns"
	"github.com/weir-mesh/weir/rules"
	"github.com/weir-mesh/weir/sim"
)

// surroundings are what other programs have in the pod beside a state: tables that were
// registered before its table or after it, routing, and checks of where packets come from.
type surroundings struct {
	before, after []foreignTable
	routing       []string // arguments of ip
	settings      []string // paths below /proc/sys, with their values
}

// foreignTable is a table of another program's.
type foreignTable struct {
	sim.Table
	family string // in nft's word
}

func (f foreignTable) title() string { return f.family + " " + f.Name }

// text is the table as nft loads it.
func (f foreignTable) text() string {
	return strings.ReplaceAll((rules.State{Table: f.Table.Table}).String(), "table inet "+f.Name, "table "+f.title())
}

func (s surroundings) String() string {
	var b strings.Builder
	for _, f := range s.before {
		b.WriteString("# before\n" + f.text())
	}
	for _, f := range s.after {
		b.WriteString("# after\n" + f.text())
	}
	return b.String() + strings.Join(slices.Concat(s.routing, s.settings), "\n")
}

// What surroundings use beside the states' own.
const (
	foreignLookup = 77 // a routing table
	neighbours    = 2  // foreign tables at most, before and after
)

// surroundings are at random: now and then there are none.
func (d dice) surroundings() (s surroundings) {
	if d.oneIn(3) {
		return s
	}
	for i := range d.IntN(neighbours + 1) {
		s.before = append(s.before, d.foreignTable(fmt.Sprintf("before%d", i)))
	}
	for i := range d.IntN(neighbours + 1) {
		s.after = append(s.after, d.foreignTable(fmt.Sprintf("after%d", i)))
	}
	for range d.IntN(3) {
		if r := d.policyRule(); !slices.Contains(s.routing, r) {
			s.routing = append(s.routing, r)
		}
	}
	if len(s.routing) > 0 { // routes first: the kernel looks their gateways up by the rules
		s.routing = append(d.foreignRoutes(), s.routing...)
	}
	for _, link := range []string{"all", "eth0", "eth1"} {
		if d.oneIn(4) {
			s.settings = append(s.settings, fmt.Sprintf("net/ipv4/conf/%s/rp_filter=%d", link, d.IntN(3)))
		}
		if d.oneIn(4) {
			s.settings = append(s.settings, fmt.Sprintf("net/ipv4/conf/%s/src_valid_mark=1", link))
		}
	}
	return s
}

// foreignTable is one whose family's packets alone meet it.
func (d dice) foreignTable(name string) foreignTable {
	for {
		state := d.state()
		state.Table.Name = name
		f := foreignTable{sim.Table{Table: state.Table}, "inet"}
		if family := one(d, 0, rules.IPv4, rules.IPv6); family != 0 {
			f.Family, f.family = family, map[rules.Family]string{rules.IPv4: "ip", rules.IPv6: "ip6"}[family]
			for _, c := range f.Chains {
				c.Rules = slices.DeleteFunc(c.Rules, func(r rules.Rule) bool { return !speaksOf(r, family) })
			}
		}
		ingress := func(c *rules.Chain) bool { return c.Base != nil && c.Base.Hook == rules.Ingress } // inet's alone
		if f.family == "inet" || !slices.ContainsFunc(f.Chains, ingress) {
			return f
		}
	}
}

// speaksOf reports whether a table of the family can hold the rule.
func speaksOf(r rules.Rule, family rules.Family) bool {
	return !slices.ContainsFunc(r.Nodes, func(n rules.Node) bool {
		switch n := n.(type) {
		case rules.Match:
			return slices.ContainsFunc(n.Key, func(s rules.Selector) bool {
				return s.Family() != 0 && s.Family() != family || s == rules.NFProto.Selector()
			})
		case rules.SNAT:
			return rules.AddressFamily(n.To) != family
		case rules.TProxy:
			return true // which is written for both families
		case rules.Reject:
			return n.Unreachable // icmpx, which is inet's
		}
		return false
	})
}

// policyRule is one of another program's, at times before the state's.
func (d dice) policyRule() string {
	text := fmt.Sprintf("rule add pref %d", one(d, 40, 99, 100, 101, 32766, 33000))
	if d.oneIn(4) {
		text = strings.Replace(text, "add", "add not", 1)
	}
	v6 := d.oneIn(3)
	prefix := d.v4
	if v6 {
		prefix, text = d.v6, "-6 "+text
	}
	if d.oneIn(3) {
		text += " from " + prefix().String()
	}
	if d.oneIn(3) {
		text += " to " + prefix().String()
	}
	if d.oneIn(2) {
		mask := d.bits()
		text += fmt.Sprintf(" fwmark 0x%x/0x%x", d.mark()&mask, mask)
	}
	if d.oneIn(4) {
		text += " iif " + one(d, "lo", "eth0", "eth1")
	}
	text += fmt.Sprintf(" lookup %d", one(d, foreignLookup, foreignLookup, divertTable, 254, 255))
	return strings.Replace(text, "pref 32766 lookup 254", "pref 33000 lookup 254", 1) // the first is the kernel's own
}

// foreignRoutes are those of the table that others look up.
func (d dice) foreignRoutes() (out []string) {
	for _, f := range []string{"", "-6 "} {
		prefix, via := d.v4, "198.18.1.1"
		if f != "" {
			prefix, via = d.v6, "2001:db8:19::1"
		}
		for range 1 + d.IntN(2) {
			to := prefix().String()
			if d.oneIn(2) {
				to = "default"
			}
			out = append(out, f+"route replace "+one(d, to+" dev eth0", to+" via "+via+" dev eth1", "local "+to+" dev lo", "unreachable "+to, "throw "+to)+fmt.Sprintf(" table %d", foreignLookup))
		}
	}
	return out
}

// surround has the pod hold what is registered before a state, and reads what packets meet
// beside tables.
func (t *trial) surround(s surroundings) error {
	var script, gone strings.Builder
	for _, f := range slices.Concat(t.around.before, t.around.after) {
		fmt.Fprintf(&gone, "table %s\ndelete table %s\n", f.title(), f.title())
	}
	for _, f := range s.before {
		script.WriteString(f.text())
	}
	undo := []string{fmt.Sprintf("route flush table %d", foreignLookup), fmt.Sprintf("-6 route flush table %d", foreignLookup)}
	for _, line := range t.around.routing {
		if strings.Contains(line, "rule add") {
			undo = append(undo, strings.Replace(line, "rule add", "rule del", 1))
		}
	}
	t.around = s
	if _, err := t.conn.Session(tableName, "test").Remove(t.Context()); err != nil {
		return err
	}
	return t.pod.Do(func() error {
		// Apart: nat's place in a hook is as old as its first chain, also where that goes in one batch.
		if err := errors.Join(t.load(gone.String()), t.load(script.String())); err != nil {
			return err
		}
		for _, line := range append(undo, s.routing...) {
			out, err := exec.CommandContext(t.Context(), "ip", strings.Fields(line)...).CombinedOutput()
			if strings.Contains(line, "rule add") && strings.Contains(string(out), "File exists") {
				// The kernel takes a rule for one that says more of addresses (fib4_rule_compare).
				t.around.routing = slices.DeleteFunc(slices.Clone(t.around.routing), func(l string) bool { return l == line })
				continue
			}
			if err != nil && !strings.Contains(line, "flush") { // of a table that is not there
				return fmt.Errorf("ip %s: %w: %s", line, err, out)
			}
		}
		for _, link := range []string{"all", "eth0", "eth1"} {
			for _, key := range []string{"rp_filter", "src_valid_mark"} {
				if err := t.pod.Sysctl("net/ipv4/conf/"+link+"/"+key, "0"); err != nil {
					return err
				}
			}
		}
		for _, set := range s.settings {
			key, value, _ := strings.Cut(set, "=")
			if err := t.pod.Sysctl(key, value); err != nil {
				return err
			}
		}
		here := netns.Current()
		defer here.Close()
		host, err := here.Stack(t.Context())
		host.Sockets = podSockets()
		t.host = host
		return err
	})
}

// load has nft load a script in the namespace of the thread.
func (t *trial) load(script string) error {
	if script == "" {
		return nil
	}
	nft := exec.CommandContext(t.Context(), "nft", "-f", "-")
	nft.Stdin = strings.NewReader(script)
	if out, err := nft.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s\n%s", err, out, script)
	}
	return nil
}

// tables are those that packets meet, in the order in which they were made.
func (s surroundings) tables(own *rules.Table) (out []sim.Table) {
	for _, f := range s.before {
		out = append(out, f.Table)
	}
	out = append(out, sim.Table{Table: own})
	for _, f := range s.after {
		out = append(out, f.Table)
	}
	return out
}

// smallerSurroundings are those with one thing less.
func (s surroundings) smaller() (out []surroundings) {
	each := func(list []foreignTable, put func(*surroundings, []foreignTable)) {
		for i, f := range list {
			less := s
			put(&less, slices.Delete(slices.Clone(list), i, i+1))
			out = append(out, less)
			for _, r := range smaller(rules.State{Table: f.Table.Table}) {
				changed := slices.Clone(list)
				changed[i].Table.Table = r.Table
				less := s
				put(&less, changed)
				out = append(out, less)
			}
		}
	}
	each(s.before, func(l *surroundings, tables []foreignTable) { l.before = tables })
	each(s.after, func(l *surroundings, tables []foreignTable) { l.after = tables })
	for i := range s.routing {
		less := s
		less.routing = slices.Delete(slices.Clone(s.routing), i, i+1)
		out = append(out, less)
	}
	for i := range s.settings {
		less := s
		less.settings = slices.Delete(slices.Clone(s.settings), i, i+1)
		out = append(out, less)
	}
	return out
}

// otherDice are those of what surrounds a state: the state of a seed stays the same.
func otherDice(seed uint64) dice { return dice{rand.New(rand.NewPCG(seed, 1))} }
