// SPDX-License-Identifier: Apache-2.0

//go:build linux

package capture

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/weir-mesh/weir/internal/version"
	"github.com/weir-mesh/weir/modes"
	"github.com/weir-mesh/weir/netns"
	"github.com/weir-mesh/weir/nft"
	"github.com/weir-mesh/weir/rules"
)

// Options are what a caller decides beside the configuration. The zero Options are
// right for a pod's network namespace.
type Options struct {
	// HostNetwork allows an apply in the machine's initial network namespace, which
	// is ErrHostNetwork otherwise. Mode ambient-host is for that namespace, and needs
	// no such word. Plan, Verify and Remove never do.
	HostNetwork bool

	// LoopbackLater is that lo is brought up by the maker of the namespace, as a container
	// runtime does while CNI plugins run: that it is down is neither ErrLoopbackDown nor
	// Report.LoopbackDown.
	LoopbackLater bool

	// ResetOpen allows the first apply of a capture without connection tracking to reset
	// the connections that are open, which is an [*OpenConnectionsError] otherwise.
	ResetOpen bool

	// WriteSysctls has Apply write the settings that a ruleset needs, which are a
	// [*SysctlError] otherwise.
	WriteSysctls bool

	// Version is the applying program's own, which the table's tag records and which
	// Report.Downgrade compares: such as v1.2.3. "" is the version of weir's module.
	Version string

	// Environment stands for what would be read in the namespace, for each verb; nil:
	// it is read there.
	Environment *modes.Environment

	// Conflicts has Verify look for what stands in the way of captured traffic too, which
	// takes longer, more so where the machine has many sockets: see [Capture.Conflicts].
	Conflicts bool

	// Drain makes Remove capture nothing new at once, and wait up to that time until
	// the connections that are captured have ended. 0: they are reset.
	Drain time.Duration

	// Removing, if it is set, is called once by Remove where connections are captured:
	// before it resets them, or as it begins to wait for their end.
	Removing func(Captured)
}

// Captured counts the connections that a table takes to a proxy.
type Captured = nft.Captured

// Capture is what one table of one network namespace is to hold. Its verbs may be
// called in any order and from several goroutines: they work one after the other.
// Between them it remembers what it read: an apply of what holds already reads
// little and sends nothing.
type Capture struct {
	ns      *netns.Namespace
	config  modes.Config
	state   *rules.State // a ruleset by hand; nil: that of the configuration
	written bool         // there is neither: it is about what weir wrote there
	table   string
	options Options

	mu      sync.Mutex
	conn    *nft.Conn
	session *nft.Session
	sweep   Notices // of the traces that were swept, not told yet
}

// New is the capture that a configuration asks for. The namespace stays the caller's,
// and open until the Capture is done with. The error joins a [*modes.ConfigError] for
// each problem with the version, the mode and the table's name. The rest is checked in
// the namespace's environment, by each verb; [modes.Check] tells before what can be
// told without one.
func New(ns *netns.Namespace, config modes.Config, options Options) (*Capture, error) {
	frame := modes.Config{Version: config.Version, Mode: config.Mode, Table: config.Table}
	switch config.Mode {
	case modes.ModeSidecar, modes.ModeAmbientPod, modes.ModeAmbientHost, modes.ModeEgress:
		frame.Mode = modes.ModeNone // which wants no other key
	}
	if err := modes.Check(frame); err != nil {
		return nil, err
	}
	return &Capture{ns: ns, config: config, table: config.TableName(), options: options}, nil
}

// OfState is a capture by a ruleset of one's own, which is applied, compared and
// removed like a configuration's. The error is ErrEmptyState where the state has no
// table, or what is wrong with the state (see [rules.State.Check]).
func OfState(ns *netns.Namespace, state rules.State, options Options) (*Capture, error) {
	if state.Table == nil {
		return nil, ErrEmptyState
	}
	if err := state.Check(); err != nil {
		return nil, err
	}
	return &Capture{ns: ns, state: &state, table: state.Table.Name, options: options}, nil
}

// OfTable is about what weir wrote into a table, for a caller who has no
// configuration: Verify compares the table with its tag, Remove removes it, and Plan
// and Apply are ErrEmptyState. The error is a [*modes.ConfigError] where the name is
// not one that a table of weir's can have.
func OfTable(ns *netns.Namespace, table string, options Options) (*Capture, error) {
	config := modes.Config{Mode: modes.ModeNone, Table: table}
	c, err := New(ns, config, options)
	if err != nil {
		return nil, err
	}
	c.written = true
	return c, nil
}

// Table is the name of the table, which is of nftables' family inet.
func (c *Capture) Table() string { return c.table }

// Close closes the connection to the kernel, if a verb opened one. What was applied
// stays. The namespace is the caller's to close.
func (c *Capture) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn != nil {
		c.conn.Close()
		c.conn, c.session = nil, nil
	}
}

// connect opens the connection to the kernel, and removes what killed traces left
// behind. The first verb that tells its notices tells of those.
func (c *Capture) connect(ctx context.Context, notices *Notices) error {
	if c.conn == nil {
		conn, err := c.ns.Nft()
		if err != nil {
			return netns.WithAdvice(err)
		}
		c.conn, c.session = conn, conn.Session(c.table, c.version())
		c.sweep = sweep(ctx, conn, c.ns)
	}
	if notices != nil && (c.sweep.Swept != nil || c.sweep.Unswept != nil) {
		notices.Swept, notices.Unswept = c.sweep.Swept, c.sweep.Unswept
		c.sweep = Notices{}
	}
	return nil
}

func (c *Capture) version() string {
	if c.options.Version != "" {
		return c.options.Version
	}
	return version.String()
}

// State is what is wanted of the namespace in the environment that it has now, and
// what there is to note of the configuration. The error is that the environment
// cannot be read, or joins a [*modes.ConfigError] for each problem: those that are
// Missing are what the namespace lacks.
func (c *Capture) State(ctx context.Context) (rules.State, []modes.Note, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.options.Environment == nil && c.state == nil {
		if err := c.connect(ctx, nil); err != nil {
			return rules.State{}, nil, err
		}
	}
	w, err := c.wanted(ctx)
	return w.state, w.notes, err
}

// wanted is a state in an environment.
type wanted struct {
	state rules.State
	notes []modes.Note
	env   modes.Environment
	seen  *netns.Interfaces // nil: they were not looked at
}

// standing is what is wanted, but that the policy rule stays where it stands: what came
// before it since is in the way, and no drift.
func (c *Capture) standing(ctx context.Context) (wanted, error) {
	return c.wantedIn(ctx, modes.Environment.AsStanding)
}

// placed is what is wanted now, in the environment that [Capture.standing] read.
func (c *Capture) placed(standing wanted) (w wanted, err error) {
	w = standing
	if len(w.env.PolicyRules) > 0 {
		w.state, w.notes, err = modes.State(c.config, w.env)
	}
	return w, err
}

// wanted is what is wanted now. Where there is no connection, it is what can be told
// without.
func (c *Capture) wanted(ctx context.Context) (wanted, error) {
	return c.wantedIn(ctx, func(env modes.Environment) modes.Environment { return env })
}

func (c *Capture) wantedIn(ctx context.Context, seen func(modes.Environment) modes.Environment) (w wanted, err error) {
	if c.state != nil {
		w.state = *c.state
		return w, nil
	}
	switch {
	case c.options.Environment != nil:
		w.env = *c.options.Environment
	case c.conn == nil:
		w.env, err = FileEnvironment(ctx, c.ns, c.config.Lookups())
	default:
		var all netns.Interfaces
		w.env, all, err = readEnvironment(ctx, c.ns, c.config)
		w.seen = &all
		if err == nil && c.config.Mode == modes.ModeEgress {
			w.env.InnerPayload, err = c.conn.InnerPayload(ctx)
		}
	}
	if err != nil {
		return w, err
	}
	w.state, w.notes, err = modes.State(c.config, seen(w.env))
	return w, err
}

// failed says which verb failed, at which table.
func (c *Capture) failed(verb string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s inet %s: %w", verb, c.table, err)
}
