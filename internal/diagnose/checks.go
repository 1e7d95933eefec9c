// SPDX-License-Identifier: Apache-2.0

//go:build linux

package diagnose

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/weir-mesh/weir/internal/pods"
	"github.com/weir-mesh/weir/nft"
)

// Status is how a check ended.
type Status string

// How checks end.
const (
	Passed  Status = "ok"
	Noted   Status = "note" // to know, and no failure
	Failed  Status = "failed"
	Skipped Status = "skipped" // it could not be checked
)

// Check is what was found of one subject.
type Check struct {
	Name    string `json:"check"`
	Status  Status `json:"status"`
	Finding string `json:"finding"`
	Remedy  string `json:"remedy,omitempty"` // what to do about it, "" for nothing
}

// Checks judges the facts, in the order in which things fail.
func (f Facts) Checks() []Check {
	out := []Check{kernelCheck(f), permissionCheck(f)}
	out = append(out, placeChecks(f)...)
	out = append(out, featureChecks(f)...)
	out = append(out, loopbackCheck(f), ipv6Check(f))
	out = append(out, sysctlChecks(f)...)
	out = append(out, cgroupCheck(f))
	out = append(out, leftoverChecks(f)...)
	out = append(out, dormantChecks(f)...)
	out = append(out, conflictChecks(f)...)
	out = append(out, userCheck(f))
	out = append(out, trackingCheck(f)...)
	return append(out, connectionsCheck(f))
}

// oldest is the kernel that no ruleset of a present mode needs more than.
var oldest = [2]int{5, 10}

func kernelCheck(f Facts) Check {
	c := Check{"kernel", Passed, "Linux " + f.kernel, ""}
	var major, minor int
	if _, err := fmt.Sscanf(f.kernel, "%d.%d", &major, &minor); err != nil {
		c.Status, c.Finding = Skipped, fmt.Sprintf("its release %q does not say its version", f.kernel)
	} else if major < oldest[0] || major == oldest[0] && minor < oldest[1] {
		c.Status = Failed
		c.Finding = fmt.Sprintf("Linux %s is older than %d.%d, the oldest that is tried", f.kernel, oldest[0], oldest[1])
		c.Remedy = "a newer kernel; the lines below say what works on this one"
	}
	return c
}

func permissionCheck(f Facts) Check {
	c := Check{"CAP_NET_ADMIN", Passed, "rules can be read and changed", ""}
	switch {
	case errors.Is(f.readErr, nft.ErrNotPermitted):
		c.Status, c.Finding = Failed, "rules can be neither read nor changed: CAP_NET_ADMIN is missing in the network namespace"
		c.Remedy = "securityContext.capabilities.add: [NET_ADMIN] in a pod, root on a node, or unshare -Urn to try"
	case f.readErr != nil:
		c.Status, c.Finding = Failed, fmt.Sprintf("rules cannot be read: %v", f.readErr)
		c.Remedy = "a kernel with CONFIG_NF_TABLES and its module nf_tables"
	}
	return c
}

// placeChecks are notes about a namespace that is not like others.
func placeChecks(f Facts) []Check {
	var out []Check
	if f.host {
		out = append(out, Check{"namespace", Noted, "this is the machine's own network namespace", "apply needs --host-network here; --pid N or --netns NAME means a container's"})
	}
	if len(f.userSpace) > 0 {
		out = append(out, Check{"users", Noted, "this is a user namespace, in which these users exist: " + joined(f.userSpace),
			"proxy.uids must be among them; rules of another user's match nothing"})
	}
	return out
}

func joined[T fmt.Stringer](list []T) string {
	words := make([]string, len(list))
	for i, v := range list {
		words[i] = v.String()
	}
	return strings.Join(words, ", ")
}

func featureChecks(f Facts) []Check {
	if f.tried == "" {
		return []Check{{"nftables", Skipped, fmt.Sprintf("what modes need was not tried: %v", WithPermit(f.trialErr)),
			"a scratch namespace takes CAP_SYS_ADMIN (root, or unshare -Urn); --here tries in the namespace itself"}}
	}
	var out []Check
	for _, t := range f.trials {
		out = append(out, featureCheck(t, f.tried))
	}
	return out
}

func featureCheck(t nft.Trial, where string) Check {
	c := Check{t.Name, Passed, "tried in " + where, ""}
	if t.Err == nil {
		return c
	}
	c.Status, c.Finding = Failed, fmt.Sprintf("refused (%v): needed for %s", cause(t.Err), t.For)
	c.Remedy = t.Option
	if !strings.HasPrefix(t.Option, "Linux") {
		c.Remedy = "a kernel with " + t.Option
	}
	if t.Optional {
		c.Status, c.Finding = Noted, fmt.Sprintf("not in this kernel (%v), for: %s", cause(t.Err), t.For)
	}
	return c
}

// cause is what the kernel said, without the place in a trial.
func cause(err error) error {
	var rejected *nft.RejectedError
	if errors.As(err, &rejected) {
		return rejected.Err
	}
	return err
}

func loopbackCheck(f Facts) Check {
	switch {
	case !f.looked:
		return Check{"lo", Skipped, "it was not looked at", ""}
	case !f.lo.Up:
		return Check{"lo", Failed, "it is down: what is redirected would not reach the proxy", "ip link set lo up"}
	}
	return Check{"lo", Passed, "it is up", ""}
}

func ipv6Check(f Facts) Check {
	c := Check{"IPv6", Passed, "on lo and elsewhere", ""}
	switch {
	case f.readErr != nil && !f.ipv6 && !f.lo.IPv6:
		c.Status, c.Finding = Skipped, "the namespace's addresses were not read"
	case f.ipv6 && !f.lo.IPv6:
		c.Status = Failed
		c.Finding = "interfaces have IPv6 addresses and lo takes none: a redirected IPv6 connection cannot be delivered"
		c.Remedy = "sysctl -w net.ipv6.conf.lo.disable_ipv6=0, or ipv6: disabled in the configuration"
	case !f.ipv6 && !f.lo.IPv6:
		c.Status, c.Finding = Noted, "there is none here, not even on lo; with ipv6: auto it is left alone"
	case !f.ipv6:
		c.Status, c.Finding = Noted, "on lo alone; with ipv6: auto it is left alone"
	}
	return c
}

func cgroupCheck(f Facts) Check {
	if !f.mounts {
		return Check{"cgroup2", Skipped, "there is no /proc to tell what is mounted", ""}
	}
	if f.cgroup2 == "" {
		return Check{"cgroup2", Noted, "is not mounted: owners by cgroup cannot be told", "mount -t cgroup2 none /sys/fs/cgroup, where those are wanted"}
	}
	return Check{"cgroup2", Passed, "is mounted on " + f.cgroup2, ""}
}

func userCheck(f Facts) Check {
	const name = "proxy's users"
	switch {
	case len(f.proxyUIDs) == 0:
		return Check{name, Skipped, "neither a configuration nor rules of weir say who they are", ""}
	case f.processErr != nil:
		return Check{name, Skipped, fmt.Sprintf("the processes were not looked at: %v", f.processErr), ""}
	}
	for _, uids := range f.proxyUIDs {
		var of []pods.Process
		for _, p := range f.processes {
			if uids.has(p.FSUID) {
				of = append(of, p)
			}
		}
		if top := pods.Topmost(of); len(top) > 1 {
			return Check{name, Failed, fmt.Sprintf("user %s is that of %d processes that have nothing to do with each other: %s; their traffic is taken for the proxy's and not captured",
				uids, len(top), joined(top)), "a user of its own for the proxy (proxy.uids, securityContext.runAsUser)"}
		}
	}
	return Check{name, Passed, "user " + joined(f.proxyUIDs) + ": no other process of it in this namespace", ""}
}

const nearlyFull = 90 // per cent

func connectionsCheck(f Facts) Check {
	const name = "conntrack"
	c := f.connections
	if !c.Known {
		return Check{name, Skipped, "the connection tracker's numbers cannot be read here", ""}
	}
	fill := fmt.Sprintf("%d of %d connections", c.Count, c.Max)
	const remedy = "more room (sysctl -w net.netfilter.nf_conntrack_max=%s on the machine), shorter net.netfilter.nf_conntrack_tcp_timeout_established, or conntrack: none in the configuration, which takes no entry"
	double := strconv.FormatUint(2*c.Max, 10)
	switch {
	case c.Max > 0 && c.Count >= c.Max:
		return Check{name, Failed, fill + ": the table is full, new connections are dropped", fmt.Sprintf(remedy, double)}
	case c.Count*100 >= c.Max*nearlyFull && c.Max > 0:
		return Check{name, Failed, fill + ": the table is nearly full; once it is, new connections are dropped", fmt.Sprintf(remedy, double)}
	case c.Dropped > 0:
		return Check{name, Noted, fmt.Sprintf("%s; %d were dropped for want of room", fill, c.Dropped), fmt.Sprintf(remedy, double)}
	}
	return Check{name, Passed, fill, ""}
}
