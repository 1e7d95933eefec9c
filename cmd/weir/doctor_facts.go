package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"strconv"
	"strings"

	nodepods "github.com/weir-mesh/weir/internal/pods"
	"github.com/weir-mesh/weir/internal/scratch"
	"github.com/weir-mesh/weir/netns"
	"github.com/weir-mesh/weir/nft"
	"github.com/weir-mesh/weir/rules"
)

// facts are what the doctor knows of a namespace before it judges.
type facts struct {
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
	sysctls   map[string]string // by path below /proc/sys, those that can be read
	mounts    bool              // what is mounted can be read
	cgroup2   string            // where it is mounted
	sightings []sighting
	legacyErr error
	leftovers []rules.Difference // of applies of weir's that were cut short
	inTheWay  error              // the tables by names of weir's that it did not write
	tproxy    bool               // the rules, or the configuration, use it

	listeners bool     // rules in force hand packets to transparent listeners
	unheard   []string // of whose ports nothing listens

	table        string
	proxyUIDs    []idRange
	processes    []nodepods.Process // of the namespace
	processErr   error
	connections  netns.Tracked
	cannotInside error
}

// idRange are users, both ends included.
type idRange struct{ lo, hi uint32 }

func (r idRange) String() string {
	if r.lo == r.hi {
		return strconv.FormatUint(uint64(r.lo), 10)
	}
	return fmt.Sprintf("%d-%d", r.lo, r.hi)
}

func (r idRange) has(id uint32) bool { return r.lo <= id && id <= r.hi }

// examine collects the facts. What cannot be had is told as such, but for the
// addresses.
func (j *job) examine(ctx context.Context) (facts, error) {
	f := facts{kernel: netns.KernelRelease(), table: j.table, userSpace: userMap()}
	var err error
	f.cgroup2, err = netns.Cgroup2Mount()
	f.mounts = err == nil
	f.host, _ = j.target.IsHost()
	f.readErr = j.connect(ctx)
	if f.readErr == nil {
		f.readErr = j.examineRules(ctx, &f)
	}
	if j.conn != nil {
		if err := j.examineIPv6(ctx, &f); err != nil {
			return f, err
		}
	}
	j.try(ctx, &f)
	if f.sysctls, f.cannotInside = judgedSysctls(j.target); f.cannotInside == nil {
		f.connections, f.cannotInside = j.target.Tracked()
	}
	j.examineProcesses(&f)
	return f, ctx.Err()
}

func (j *job) examineRules(ctx context.Context, f *facts) error {
	ruleset, err := j.conn.RulesetWith(ctx, noElements)
	if err != nil {
		return err
	}
	live, err := j.conn.Read(ctx, j.table)
	if err != nil {
		return err
	}
	policy, err := j.conn.ForeignPolicyRules(ctx)
	if err != nil {
		return err
	}
	legacy, err := j.target.LegacyTables()
	f.legacyErr = withAdvice(err)
	f.sightings = sightings(ruleset.Tables, legacy, policy)
	f.leftovers, f.inTheWay = live.Leftovers(), live.Refusal(rules.State{})
	f.examineTable(live.State.Table)
	return j.examineListeners(ctx, f, live.State.Table)
}

func (j *job) examineIPv6(ctx context.Context, f *facts) error {
	addresses, err := j.target.Addresses(ctx)
	if err != nil {
		return err
	}
	f.ipv6 = netns.HasIPv6(addresses)
	f.lo, err = j.target.Loopback(ctx)
	f.looked = err == nil
	return err
}

// try tries what modes need, in a scratch namespace unless --here was given.
func (j *job) try(ctx context.Context, f *facts) {
	conn := j.conn
	f.tried = "the namespace itself"
	if !j.cc.Bool("here") {
		f.tried = "a scratch namespace"
		ns, err := scratch.NewNamespace()
		if err != nil {
			f.tried, f.trialErr = "", err
			return
		}
		defer ns.Close()
		err = ns.Do(func() error {
			conn, err = nft.Open(0)
			return err
		})
		if err != nil {
			f.tried, f.trialErr = "", err
			return
		}
		defer conn.Close()
	}
	if conn == nil {
		f.tried, f.trialErr = "", f.readErr
		return
	}
	f.trials, f.trialErr = conn.Try(ctx, nft.Features())
	if f.trialErr != nil {
		f.tried = ""
	}
}

// The settings that the doctor judges: of all interfaces, and of each.
const (
	rpFilter   = "rp_filter"
	validMark  = "src_valid_mark"
	localnet   = "route_localnet"
	confFolder = "net/ipv4/conf/"
)

// judgedSysctls are the settings that are in force: not those of interfaces to come,
// nor lo's, by which nothing arrives from elsewhere.
func judgedSysctls(t *netns.Namespace) (map[string]string, error) {
	values, err := t.Sysctls(confFolder+"*/"+rpFilter, confFolder+"*/"+validMark, confFolder+"*/"+localnet)
	maps.DeleteFunc(values, func(path, _ string) bool {
		return strings.HasPrefix(path, confFolder+"default/") || strings.HasPrefix(path, confFolder+"lo/")
	})
	return values, err
}

// userMap are the users that exist here, none where all do, see
// user_namespaces(7).
func userMap() []idRange {
	text, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		return nil
	}
	var out []idRange
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		var inside, outside, length uint32
		if _, err := fmt.Sscan(lines.Text(), &inside, &outside, &length); err != nil || length == 0 {
			continue
		}
		if length == 1<<32-1 {
			return nil
		}
		out = append(out, idRange{inside, inside + length - 1})
	}
	return out
}

// examineTable takes from a table who the proxy is, and how it captures.
func (f *facts) examineTable(t *rules.Table) {
	f.proxyUIDs = proxyUIDs(t)
	f.tproxy = t != nil && holdsNode(t, func(n rules.Node) bool { _, is := n.(rules.TProxy); return is })
}

// proxyUIDs are the users that a table takes for the proxy's.
func proxyUIDs(t *rules.Table) []idRange {
	if t == nil {
		return nil
	}
	set := t.Set("proxy_uids")
	if set == nil || len(set.Key) != 1 {
		return nil
	}
	var out []idRange
	for _, e := range set.Elements {
		out = append(out, idRange{uint32(e.Key[0].Lo.Uint64()), uint32(e.Key[0].Hi.Uint64())})
	}
	return out
}

// examineProcesses finds the processes of the namespace, but for this one and the
// kernel's threads.
func (j *job) examineProcesses(f *facts) {
	own, err := j.target.Inode()
	if err != nil {
		f.processErr = err
		return
	}
	all, err := nodepods.Processes()
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
