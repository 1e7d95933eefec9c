// SPDX-License-Identifier: Apache-2.0

//go:build linux

package capturetest

import (
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"github.com/weir-mesh/weir/capture"
	"github.com/weir-mesh/weir/capture/internal/policy"
	"github.com/weir-mesh/weir/modes"
	"github.com/weir-mesh/weir/nft"
	"github.com/weir-mesh/weir/rules"
)

// Namespace is a network namespace without a kernel. The zero Namespace is a container's:
// empty, with lo up and without IPv6. Its methods may be called from several goroutines;
// its fields are set before.
type Namespace struct {
	// Environment is what a configuration finds where Options.Environment says nothing.
	Environment modes.Environment

	Host         bool // it is the machine's own
	LoopbackDown bool

	// Err is what every verb that would reach the kernel answers, such as
	// nft.ErrNotPermitted; of a plan, Uncompared. nil: it works.
	Err error

	mu     sync.Mutex
	tables map[string]*table
}

// table is what weir wrote under one name, and what is there.
type table struct {
	live    rules.State // in normal form
	written rules.State // in normal form
	tag     nft.Tag
}

// New is [capture.New] in this namespace.
func (n *Namespace) New(config modes.Config, options capture.Options) (*Fake, error) {
	if _, err := capture.New(nil, config, options); err != nil {
		return nil, err
	}
	return &Fake{ns: n, config: config, table: config.TableName(), options: options}, nil
}

// OfState is [capture.OfState] in this namespace.
func (n *Namespace) OfState(state rules.State, options capture.Options) (*Fake, error) {
	if _, err := capture.OfState(nil, state, options); err != nil {
		return nil, err
	}
	return &Fake{ns: n, state: &state, table: state.Table.Name, options: options}, nil
}

// OfTable is [capture.OfTable] in this namespace.
func (n *Namespace) OfTable(name string, options capture.Options) (*Fake, error) {
	if _, err := capture.OfTable(nil, name, options); err != nil {
		return nil, err
	}
	return &Fake{ns: n, written: true, table: name, options: options}, nil
}

// Disturb lets another program change what the namespace holds under a table's name:
// edit is given a copy of the state, in normal form, and leaves what is to be there. It
// is an error that weir wrote no such table.
func (n *Namespace) Disturb(name string, edit func(*rules.State)) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	t := n.tables[name]
	if t == nil {
		return fmt.Errorf("there is no table inet %s", name)
	}
	changed := clone(t.live)
	edit(&changed)
	t.live = changed.Normal()
	return nil
}

// State is what the namespace holds under a table's name, in normal form; the zero
// State where that is nothing.
func (n *Namespace) State(name string) rules.State {
	n.mu.Lock()
	defer n.mu.Unlock()
	if t := n.tables[name]; t != nil {
		return clone(t.live)
	}
	return rules.State{}
}

// Pods is the probe set of a table, as [capture.Capture.Pods] reads it.
func (n *Namespace) Pods(name string) (capture.Pods, error) {
	p, err := policy.NewProbeSet(n.State(name).Table)
	if err != nil {
		return nil, err
	}
	return p.Now, nil
}

// AddPods adds addresses to the probe set of a table, as [capture.Capture.AddPods] does.
func (n *Namespace) AddPods(name string, pods map[netip.Addr]string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	t := n.tables[name]
	if t == nil {
		return policy.ErrNoProbeSet
	}
	live := clone(t.live)
	p, err := policy.NewProbeSet(live.Table)
	if err != nil {
		return err
	}
	p.Add(pods)
	for _, change := range p.Changes() {
		gone := func(e rules.Element) bool {
			return slices.ContainsFunc(change.Delete, func(d rules.Element) bool { return d.Key[0] == e.Key[0] })
		}
		change.Set.Elements = append(slices.DeleteFunc(change.Set.Elements, gone), change.Add...)
	}
	t.live = live.Normal()
	return nil
}

// clone copies what an edit may change: the table, its chains and its sets.
func clone(s rules.State) rules.State {
	if s.Table != nil {
		t := *s.Table
		t.Chains, t.Sets = slices.Clone(t.Chains), slices.Clone(t.Sets)
		for i, c := range t.Chains {
			own := *c
			own.Rules = slices.Clone(c.Rules)
			t.Chains[i] = &own
		}
		for i, set := range t.Sets {
			own := *set
			own.Elements = slices.Clone(set.Elements)
			t.Sets[i] = &own
		}
		s.Table = &t
	}
	s.PolicyRules, s.Routes, s.Addresses = slices.Clone(s.PolicyRules), slices.Clone(s.Routes), slices.Clone(s.Addresses)
	return s
}
