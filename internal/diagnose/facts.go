// SPDX-License-Identifier: Apache-2.0

//go:build linux

package diagnose

import (
	"context"
	"errors"
	"os"

	"github.com/weir-mesh/weir/internal/conflict"
	"github.com/weir-mesh/weir/internal/conflict/sight"
	"github.com/weir-mesh/weir/internal/pods"
	"github.com/weir-mesh/weir/internal/scratch"
	"github.com/weir-mesh/weir/modes"
	"github.com/weir-mesh/weir/netns"
	"github.com/weir-mesh/weir/nft"
	"github.com/weir-mesh/weir/rules"
)

// Facts are what is known of a namespace before it is judged.
type Facts struct {
	kernel    string // the release, as uname(2) tells it
	host      bool   // this is the machine's own network namespace
	userSpace []idRange
	readErr   error // of nftables, nil where they can be read

	tried    string // where features were, "" for nowhere
	trialErr error  // why they were not
	trials   []nft.Trial

	looked    bool // at addresses and lo
	ipv6      bool // an address that is not link-local, on an interface other than lo
	lo        netns.Loopback
	sysctls   map[string]string  // by path below /proc/sys, those that can be read
	mounts    bool               // what is mounted can be read
	cgroup2   string             // where it is mounted
	leftovers []rules.Difference // of applies of weir's that were cut short
	inTheWay  error              // tables with weir's names that it did not write
	trackers  []string           // what switches connection tracking on
	dormant   bool               // weir's table: the kernel calls none of its chains

	state rules.State // that is wanted, or in force
	live  bool        // weir's table is there
	sight sight.Sight
	blind error // why nothing that may be in the way was looked at

	table        string
	proxyUIDs    []idRange
	processes    []pods.Process // of the namespace
	processErr   error
	connections  netns.Tracked
	cannotInside error
}

// Options say how a namespace is examined.
type Options struct {
	Table string // weir's, the name of an inet table
	// Here has the features of the kernel tried in the namespace itself: that may
	// switch conntrack on there and load modules. Otherwise a scratch namespace is
	// made for it, which takes CAP_SYS_ADMIN.
	Here bool
}

// Examine collects the facts of a namespace. What cannot be read is a fact as well;
// the error is that addresses cannot be read, or the end of the context.
func Examine(ctx context.Context, ns *netns.Namespace, o Options) (Facts, error) {
	f := Facts{kernel: netns.KernelRelease(), table: o.Table, userSpace: userMap()}
	var err error
	f.cgroup2, err = netns.Cgroup2Mount()
	f.mounts = err == nil
	f.host, _ = ns.IsHost()
	conn, err := ns.Nft()
	if err != nil {
		f.readErr = netns.WithAdvice(err)
	} else {
		defer conn.Close()
		f.readErr = f.examineRules(ctx, ns, conn)
		if err := f.examineIPv6(ctx, ns); err != nil {
			return f, err
		}
	}
	f.try(ctx, conn, o.Here)
	if f.sysctls, f.cannotInside = judgedSysctls(ns); f.cannotInside == nil {
		f.connections, f.cannotInside = ns.Tracked()
	}
	f.examineProcesses(ns)
	return f, ctx.Err()
}

// Configured takes from a configuration, and the state that it asks for, who the proxy is, and
// how it captures; without it the rules in force say that.
func (f *Facts) Configured(c modes.Config, want rules.State) {
	f.examineTable(want.Table)
	f.state, f.sight.IPv6 = want.Normal(), conflict.ChoiceOf(c)
}

func (f *Facts) examineRules(ctx context.Context, ns *netns.Namespace, conn *nft.Conn) error {
	live, err := conn.Read(ctx, f.table)
	if err != nil {
		return err
	}
	f.leftovers, f.inTheWay = live.Leftovers(), live.Refusal(rules.State{})
	f.dormant = live.State.Table != nil && live.State.Table.Dormant
	f.examineTable(live.State.Table)
	f.state, f.live = live.State, live.State.Table != nil
	if f.sight, f.blind = sight.Read(ctx, ns, conn, sight.Scope{Table: f.table, Sockets: true}); f.blind == nil {
		f.trackers = trackers(f.sight.With(live.State.Table), f.sight.Legacy)
	}
	return nil
}

func (f *Facts) examineIPv6(ctx context.Context, ns *netns.Namespace) error {
	all, err := ns.Interfaces(ctx)
	f.ipv6, f.lo, f.looked = netns.HasIPv6(all.Addresses), all.Loopback, err == nil
	return err
}

// noElements is for readers of chains and rules alone.
func noElements(*nft.LiveTable) bool { return false }

// withAdvice adds which privilege it lacks where a namespace cannot be entered.
func withAdvice(err error) error {
	if errors.Is(err, netns.ErrNotEntered) {
		return netns.WithAdvice(err)
	}
	return err
}

// try tries what modes need: here, or in a scratch namespace.
func (f *Facts) try(ctx context.Context, conn *nft.Conn, here bool) {
	where := "the namespace itself"
	if !here {
		where = "a scratch namespace"
		ns, err := scratch.NewNamespace()
		if err != nil {
			f.trialErr = err
			return
		}
		defer ns.Close()
		if err := ns.Do(func() (err error) { conn, err = nft.Open(0); return err }); err != nil {
			f.trialErr = err
			return
		}
		defer conn.Close()
	}
	if conn == nil {
		f.trialErr = f.readErr
		return
	}
	if f.trials, f.trialErr = conn.Try(ctx, nft.Features()); f.trialErr == nil {
		f.tried = where
	}
}

// examineTable takes from a table who the proxy is, and how it captures.
func (f *Facts) examineTable(t *rules.Table) {
	f.proxyUIDs = proxyUIDs(t)
}

// examineProcesses finds the processes of the namespace, but for this one and the
// kernel's threads.
func (f *Facts) examineProcesses(ns *netns.Namespace) {
	own, err := ns.Inode()
	if err != nil {
		f.processErr = err
		return
	}
	all, err := pods.Processes()
	if err != nil {
		f.processErr = err
		return
	}
	for _, p := range all {
		if p.Netns == own && p.Memory && p.PID != os.Getpid() {
			f.processes = append(f.processes, p)
		}
	}
}
