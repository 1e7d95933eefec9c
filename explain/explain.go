// SPDX-License-Identifier: Apache-2.0

//go:build linux

package explain

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"github.com/weir-mesh/weir/modes"
	"github.com/weir-mesh/weir/rules"
	"github.com/weir-mesh/weir/sim"
)

// Rules are a state, with what its listeners are called.
type Rules struct {
	State     rules.State
	Listeners map[rules.Port]string // the names of the proxy's listeners, by port; a port without one has no name
}

// RulesOf are the rules that a configuration asks for in an environment. The error
// is that of [modes.State].
func RulesOf(c modes.Config, env modes.Environment) (Rules, error) {
	state, _, err := modes.State(c, env)
	return Rules{State: state, Listeners: modes.PortNames(c)}, err
}

// In explains packets of a host where the rules are in force.
func (r Rules) In(host sim.Host) *Explainer {
	return newExplainer(host, r.Listeners, func(h sim.Host) evaluator {
		e := sim.EvaluatorOf(r.State, h)
		return func(p sim.Packet) sim.Journey { return e.Evaluate(p, nil) }
	}).of(r.State.Table)
}

// of has the explainer know which tables it explains by.
func (x *Explainer) of(t *rules.Table) *Explainer {
	if t != nil {
		x.tables = append(x.tables, t)
	}
	return x
}

// Explainer says what becomes of packets of one host.
type Explainer struct {
	host        sim.Host
	listeners   map[rules.Port]string
	evaluatorOf func(sim.Host) evaluator
	tables      []*rules.Table
	foreign     map[string]string // the owners of tables of others, by their titles; nil where weir has none
	dormant     string            // a table of weir's that the kernel passes over, "" for none
	notes       []string          // what stands before everything that is followed
	own, closed func() evaluator  // of the host, and of the host without listeners: made when first asked for
}

// evaluator follows a packet.
type evaluator func(sim.Packet) sim.Journey

func newExplainer(host sim.Host, listeners map[rules.Port]string, of func(sim.Host) evaluator) *Explainer {
	return &Explainer{host: host, listeners: listeners, evaluatorOf: of,
		own:    sync.OnceValue(func() evaluator { return of(host) }),
		closed: sync.OnceValue(func() evaluator { return of(withoutListeners(host)) })}
}

// Packet is a packet to explain, see [Request] for one in words.
type Packet = sim.Packet

// Step is a step of a packet's path.
type Step = sim.Step

// Answer is what becomes of a packet. The step that decides is that of
// [sim.Journey.Decision]. Its JSON is that of [AnswerJSON].
type Answer struct {
	sim.Journey
	Listener string // the name of the listener that gets it, "" where that has none
	Says     string // the fate in a sentence
	Decided  string // the table, chain and rule that decided, escaped; "" where none did
	Owner    string // of the packet, where the answer is for several: "uid 1337", "any other user"; else ""
	Taken    bool   // a table of another program took it, where weir has one
}

// IsCaptured reports whether the packet reaches the proxy.
func (a Answer) IsCaptured() bool {
	return !a.Taken && (a.Fate.Kind == sim.Redirected || a.Fate.Kind == sim.Proxied)
}

// IsUntouched reports whether the packet goes its way past the proxy.
func (a Answer) IsUntouched() bool { return a.Fate.Kind == sim.Untouched }

// IsUnknown reports whether the fate cannot be told from here; the answer says why.
func (a Answer) IsUnknown() bool { return a.Fate.Kind == sim.Unknown }

// Explain says what becomes of a packet. One that arrives by an interface which an
// assumed host ([Pod]) lacks is explained as if the host had it, with the packet's
// destination as an address of its own.
func (x *Explainer) Explain(p sim.Packet) Answer {
	if p.Socket != nil && p.Src.Addr().IsValid() {
		socket := *p.Socket
		socket.Transparent = true // it could not send from just any address otherwise
		p.Socket = &socket
	}
	j := x.evaluatorFor(p)(p)
	a := Answer{Journey: j, Listener: x.listeners[j.Fate.Port]}
	x.decide(&a)
	a.Says = x.says(a)
	return a
}

// An InterfaceError is that a packet arrives by an interface which the host does not
// have, or that its socket is bound to one.
type InterfaceError struct{ Name string }

func (e *InterfaceError) Error() string {
	return fmt.Sprintf("the namespace has no interface %q", e.Name)
}

// CheckInterfaces joins an [*InterfaceError] for each interface that packets arrive by, or
// their sockets are bound to, and the host does not have; nil for an assumed host, which has any.
func (x *Explainer) CheckInterfaces(packets []sim.Packet) error {
	if x.host.Assumes {
		return nil
	}
	known := map[string]bool{"": true}
	for _, l := range x.host.Links {
		known[l.Name] = true
	}
	var errs []error
	for _, p := range packets {
		for _, name := range []string{p.In, p.Device} {
			if !known[name] {
				known[name] = true // one error each
				errs = append(errs, &InterfaceError{name})
			}
		}
	}
	return errors.Join(errs...)
}

// evaluatorFor is the host's evaluator, or that of an assumed host with the interface
// that a packet arrives by and with its destination among the addresses.
func (x *Explainer) evaluatorFor(p sim.Packet) evaluator {
	if p.In == "" || !x.host.Assumes || x.host.Has(p.In, p.Dst.Addr()) {
		return x.own()
	}
	return x.evaluatorOf(x.host.Plus(p.In, netip.PrefixFrom(p.Dst.Addr(), p.Dst.Addr().BitLen())))
}
