// SPDX-License-Identifier: Apache-2.0

// Package escapes counts what passes a captured pod's proxy by: connections that the pod's rules should have taken to
// the proxy, and that leave or arrive all the same, such as where another program's chain decides first or keeps
// conntrack from the packet. The rules that count are in a table of their own, which outlives damage to the capture's.
// They decide about no packet.
package escapes

import (
	"errors"
	"fmt"

	"github.com/weir-mesh/weir/internal/reserved"
	"github.com/weir-mesh/weir/rules"
)

// ErrUncounted is that nothing can be counted: the capture takes nothing by redirect, or it depends on what is not
// copied.
var ErrUncounted = errors.New("what passes the proxy by is not counted")

// maxElements is how many elements the copied sets hold at most: the kernel keeps them twice.
const maxElements = 4096

// Rules are those that count what should have been captured by a state and was not. They are a copy of its nat chains,
// later at the same packets, in which a counter stands for a redirect. The error matches ErrUncounted.
func Rules(captured rules.State) (rules.State, error) {
	if captured.Table == nil {
		return rules.State{}, ErrUncounted
	}
	c := &copier{from: captured.Table, to: &rules.Table{Name: reserved.Escapes}}
	for _, chain := range captured.Table.Chains {
		if chain.Base == nil || chain.Base.Type != rules.NATType {
			continue
		}
		switch chain.Base.Hook {
		case rules.Output:
			c.base(chain, rules.Output, leaves())
		case rules.Prerouting:
			c.base(chain, rules.Input, arrives(chain))
		}
	}
	if c.err == nil && c.counters == 0 {
		c.err = errors.New("no rule redirects")
	}
	if c.err != nil {
		return rules.State{}, fmt.Errorf("%w: %w", ErrUncounted, c.err)
	}
	return rules.State{Table: c.to}, nil
}

// leaves passes over what is not on its way out of the pod: what was redirected is for an address of its own now.
func leaves() []rules.Rule {
	return append([]rules.Rule{{Reason: "what stays in this pod, as all that is redirected does", Nodes: []rules.Node{rules.FibDaddr.Type().Is(rules.Local), rules.Accept()}}}, opens())
}

// arrives passes over what came to a listener of the proxy, and what is sent within the pod.
func arrives(chain *rules.Chain) (out []rules.Rule) {
	out = append(out, rules.Rule{Reason: "what stays in this pod", Nodes: []rules.Node{rules.IIfName.Is("lo"), rules.Accept()}}, opens())
	for _, r := range chain.Rules {
		for _, n := range r.Nodes {
			if redirect, is := n.(rules.Redirect); is && redirect.Ports != nil {
				out = append(out, rules.Rule{Reason: "what reaches the proxy's listener", Nodes: []rules.Node{rules.TCPDport.Within(*redirect.Ports), rules.Accept()}})
			}
		}
	}
	return out
}

// opens passes over packets of connections that are open: a connection that was open before its pod was captured is
// left as it is on purpose.
func opens() rules.Rule {
	syn := rules.TCPFlags.Masked(rules.SYN, rules.FIN|rules.SYN|rules.RST|rules.ACK)
	syn.Negated = true
	return rules.Rule{Reason: "of TCP, what opens a connection counts", Nodes: []rules.Node{syn, rules.Accept()}}
}

// copier copies chains, with the chains and sets that they use.
type copier struct {
	from, to *rules.Table
	counters int
	err      error
}

func (c *copier) base(chain *rules.Chain, hook rules.Hook, before []rules.Rule) {
	out := &rules.Chain{Name: chain.Name, Base: &rules.Base{Type: rules.FilterType, Hook: hook, Priority: rules.PrioritySrcNAT}, Rules: before}
	c.to.Chains = append(c.to.Chains, out)
	c.rules(chain, out)
}

func (c *copier) rules(from, to *rules.Chain) {
	for _, r := range from.Rules {
		if c.ofOpen(r) {
			continue
		}
		out := rules.Rule{Reason: r.Reason}
		for _, n := range r.Nodes {
			out.Nodes = append(out.Nodes, c.node(n)...)
		}
		to.Rules = append(to.Rules, out)
	}
}

// ofOpen reports whether a rule is about connections that are open, by a set that changes at run time.
func (c *copier) ofOpen(r rules.Rule) bool {
	live, flags := false, false
	for _, n := range r.Nodes {
		m, is := n.(rules.Match)
		if !is {
			continue
		}
		flags = flags || m.Key[0] == rules.TCPFlags.Selector() && m.Negated
		if s := c.from.Set(m.Set); m.Set != "" && s != nil && s.Live {
			live = true
		}
	}
	return live && flags
}

func (c *copier) node(n rules.Node) []rules.Node {
	switch n := n.(type) {
	case rules.Match:
		c.set(n.Set)
		return []rules.Node{n}
	case rules.Counter:
		return nil
	case rules.Redirect:
		c.counters++
		return []rules.Node{rules.Counter{}, rules.Accept()}
	case rules.DNAT: // it goes where it should, and looks like any other
		return []rules.Node{rules.Accept()}
	case rules.Verdict:
		if n.Kind == rules.DropKind {
			return []rules.Node{rules.Accept()}
		}
		c.chain(n.Chain)
		return []rules.Node{n}
	}
	c.err = errors.Join(c.err, fmt.Errorf("a rule has %T", n))
	return nil
}

func (c *copier) chain(name string) {
	chain := c.from.Chain(name)
	if name == "" || chain == nil || c.to.Chain(name) != nil {
		return
	}
	out := &rules.Chain{Name: name}
	c.to.Chains = append(c.to.Chains, out)
	c.rules(chain, out)
}

func (c *copier) set(name string) {
	s := c.from.Set(name)
	if name == "" || s == nil || c.to.Set(name) != nil {
		return
	}
	if s.Live {
		c.err = errors.Join(c.err, fmt.Errorf("set %s changes at run time", name))
	}
	c.to.Sets = append(c.to.Sets, s)
	total := 0
	for _, copied := range c.to.Sets {
		total += len(copied.Elements)
	}
	if total > maxElements {
		c.err = errors.Join(c.err, fmt.Errorf("its sets hold more than %d elements", maxElements))
	}
}

// Count is what a table of such rules has counted.
type Count struct{ Out, In uint64 }

// CountOf reads the counters of a table as a dump found it.
func CountOf(t *rules.Table) (n Count) {
	if t == nil {
		return n
	}
	for _, chain := range t.Chains {
		to := &n.Out // what is jumped to is outbound, or of a rerouted interface
		if chain.Base != nil && chain.Base.Hook == rules.Input {
			to = &n.In
		}
		for _, r := range chain.Rules {
			for _, node := range r.Nodes {
				if counter, is := node.(rules.Counter); is {
					*to += counter.Packets
				}
			}
		}
	}
	return n
}

// Since is what was counted after an earlier count; a table that was made anew began at zero.
func (n Count) Since(before Count) Count {
	since := func(now, then uint64) uint64 {
		if now < then {
			return now
		}
		return now - then
	}
	return Count{since(n.Out, before.Out), since(n.In, before.In)}
}
