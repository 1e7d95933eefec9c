package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	nodepods "github.com/weir-mesh/weir/internal/pods"
	"github.com/weir-mesh/weir/nft"
)

// diagnose judges the facts, in the order in which things fail.
func diagnose(f facts) []check {
	out := []check{kernelCheck(f), permissionCheck(f)}
	out = append(out, placeChecks(f)...)
	out = append(out, featureChecks(f)...)
	out = append(out, loopbackCheck(f), ipv6Check(f))
	out = append(out, sysctlChecks(f)...)
	out = append(out, cgroupCheck(f))
	out = append(out, leftoverChecks(f)...)
	out = append(out, listenerChecks(f)...)
	return append(out, userCheck(f), connectionsCheck(f))
}

// oldest is the kernel that no ruleset of a present mode needs more than.
var oldest = [2]int{5, 10}

func kernelCheck(f facts) check {
	c := check{"kernel", passed, "Linux " + f.kernel, ""}
	var major, minor int
	if _, err := fmt.Sscanf(f.kernel, "%d.%d", &major, &minor); err != nil {
		c.Status, c.Finding = skipped, fmt.Sprintf("its release %q does not say its version", f.kernel)
	} else if major < oldest[0] || major == oldest[0] && minor < oldest[1] {
		c.Status = failed
		c.Finding = fmt.Sprintf("Linux %s is older than %d.%d, the oldest that is tried", f.kernel, oldest[0], oldest[1])
		c.Remedy = "a newer kernel; what works of this one the lines below tell"
	}
	return c
}

func permissionCheck(f facts) check {
	c := check{"CAP_NET_ADMIN", passed, "rules can be read and changed", ""}
	switch {
	case errors.Is(f.readErr, nft.ErrNotPermitted):
		c.Status, c.Finding = failed, "rules can be neither read nor changed: CAP_NET_ADMIN is missing in the network namespace"
		c.Remedy = "securityContext.capabilities.add: [NET_ADMIN] in a pod, root on a node, or unshare -Urn to try"
	case f.readErr != nil:
		c.Status, c.Finding = failed, fmt.Sprintf("rules cannot be read: %v", f.readErr)
		c.Remedy = "a kernel with CONFIG_NF_TABLES and its module nf_tables"
	}
	return c
}

// placeChecks tell of a namespace that is not like others.
func placeChecks(f facts) []check {
	var out []check
	if f.host {
		out = append(out, check{"namespace", noted, "this is the machine's own network namespace", "apply needs --host-network here; --pid N or --netns NAME means a container's"})
	}
	if len(f.userSpace) > 0 {
		out = append(out, check{"users", noted, "this is a user namespace, in which these users exist: " + joined(f.userSpace),
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

func featureChecks(f facts) []check {
	if f.tried == "" {
		return []check{{"nftables", skipped, fmt.Sprintf("what modes need was not tried: %v", withPermit(f.trialErr)),
			"a scratch namespace takes CAP_SYS_ADMIN (root, or unshare -Urn); --here tries in the namespace itself"}}
	}
	var out []check
	for _, t := range f.trials {
		out = append(out, featureCheck(t, f.tried))
	}
	return out
}

func featureCheck(t nft.Trial, where string) check {
	c := check{t.Name, passed, "tried in " + where, ""}
	if t.Err == nil {
		return c
	}
	c.Status, c.Finding = failed, fmt.Sprintf("refused (%v): %s cannot be", cause(t.Err), t.For)
	c.Remedy = t.Option
	if !strings.HasPrefix(t.Option, "Linux") {
		c.Remedy = "a kernel with " + t.Option
	}
	if t.Spare {
		c.Status, c.Finding = noted, fmt.Sprintf("not in this kernel (%v), for: %s", cause(t.Err), t.For)
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

func loopbackCheck(f facts) check {
	switch {
	case !f.looked:
		return check{"lo", skipped, "it was not looked at", ""}
	case !f.lo.Up:
		return check{"lo", failed, "it is down: what is redirected would not reach the proxy", "ip link set lo up"}
	}
	return check{"lo", passed, "it is up", ""}
}

func ipv6Check(f facts) check {
	c := check{"IPv6", passed, "on lo and elsewhere", ""}
	switch {
	case f.readErr != nil && !f.ipv6 && !f.lo.IPv6:
		c.Status, c.Finding = skipped, "the namespace's addresses were not read"
	case f.ipv6 && !f.lo.IPv6:
		c.Status = failed
		c.Finding = "interfaces have IPv6 addresses and lo takes none: a redirected IPv6 connection cannot be delivered"
		c.Remedy = "sysctl -w net.ipv6.conf.lo.disable_ipv6=0, or ipv6: disabled in the configuration"
	case !f.ipv6 && !f.lo.IPv6:
		c.Status, c.Finding = noted, "there is none here, not even on lo; with ipv6: auto it is left alone"
	case !f.ipv6:
		c.Status, c.Finding = noted, "on lo alone; with ipv6: auto it is left alone"
	}
	return c
}

func sysctlChecks(f facts) []check {
	if f.cannotInside != nil || len(f.sysctls) == 0 {
		return []check{{"settings", skipped, "there is no /proc/sys of this namespace to be read", ""}}
	}
	filter, filterOn := settingCheck(f, rpFilter)
	if filterOn != "" {
		filter.Status = noted
		filter.Finding += ": what arrives by another interface than its answer would leave by is dropped after prerouting"
		filter.Remedy = fmt.Sprintf("sysctl -w %s=2 where a pod has several interfaces", filterOn)
	}
	mark, markOn := settingCheck(f, validMark)
	if markOn != "" {
		mark.Status = noted
		if f.tproxy {
			mark.Status = failed
		}
		mark.Finding += ": with inbound.via tproxy the kernel looks marked packets' senders up in the proxy's routing table, and drops them"
		mark.Remedy = fmt.Sprintf("sysctl -w %s=0, or inbound.via: redirect", markOn)
	}
	route, routeOn := settingCheck(f, localnet)
	if routeOn != "" {
		route.Status = noted
		route.Finding += ": neighbours on a link reach what listens on 127.0.0.1 here"
		route.Remedy = fmt.Sprintf("sysctl -w %s=0: weir does not need it", routeOn)
	}
	return []check{filter, mark, route}
}

// settingCheck tells where a setting is on: for all interfaces, or for the last of
// those that have it on; "" where it is not. Of rp_filter the greater of the two holds, so all's 2
// leaves nothing strict (Documentation/networking/ip-sysctl.rst).
func settingCheck(f facts, name string) (c check, on string) {
	where := confFolder + "all/" + name
	if f.sysctls[where] == "0" {
		for _, path := range slices.Sorted(maps.Keys(f.sysctls)) {
			if strings.HasSuffix(path, "/"+name) && f.sysctls[path] == "1" {
				where = path
			}
		}
	}
	if f.sysctls[where] == "1" {
		on = dotted(where)
	}
	return check{name, passed, dotted(where) + " is " + f.sysctls[where], ""}, on
}

// dotted is a path below /proc/sys as sysctl(8) writes it: dots in an interface's name
// are slashes.
func dotted(path string) string { return strings.NewReplacer("/", ".", ".", "/").Replace(path) }

func cgroupCheck(f facts) check {
	if !f.mounts {
		return check{"cgroup2", skipped, "there is no /proc to tell what is mounted", ""}
	}
	if f.cgroup2 == "" {
		return check{"cgroup2", noted, "is not mounted: owners by cgroup cannot be told", "mount -t cgroup2 none /sys/fs/cgroup, where those are wanted"}
	}
	return check{"cgroup2", passed, "is mounted on " + f.cgroup2, ""}
}

func leftoverChecks(f facts) []check {
	if f.readErr != nil {
		return []check{{"other engines", skipped, "the rules were not read", ""}}
	}
	var out []check
	for _, s := range f.sightings {
		out = append(out, check{"other engines", failed, s.Engine + " has rules here: " + strings.Join(s.Signs, "; "),
			"take them out by " + s.Engine + "'s own clean-up, or delete the pod: two engines capture each other's traffic"})
	}
	if f.legacyErr != nil {
		out = append(out, check{"other engines", skipped, fmt.Sprintf("iptables-legacy's tables were not read: %v", withPermit(f.legacyErr)), ""})
	}
	if len(out) == 0 {
		out = append(out, check{"other engines", passed, "no rules of theirs: nftables, iptables-nft, iptables-legacy, policy rules", ""})
	}
	remedy := "weir apply or weir remove takes them away"
	if f.inTheWay != nil {
		out = append(out, check{"tables in the way", failed, f.inTheWay.Error(), "give them up, or have weir's table by another name (key table)"})
		remedy = "what is in the way first; then " + remedy
	}
	if len(f.leftovers) == 0 {
		return append(out, check{"left-overs", passed, "none of an apply that was cut short", ""})
	}
	var lines []string
	for _, d := range f.leftovers {
		lines = append(lines, d.String())
	}
	return append(out, check{"left-overs", failed, strings.Join(lines, "\n"), remedy})
}

func userCheck(f facts) check {
	const name = "proxy's users"
	switch {
	case len(f.proxyUIDs) == 0:
		return check{name, skipped, "no configuration and no rules of weir's say who they are", ""}
	case f.processErr != nil:
		return check{name, skipped, fmt.Sprintf("the processes were not looked at: %v", f.processErr), ""}
	}
	for _, uids := range f.proxyUIDs {
		var of []nodepods.Process
		for _, p := range f.processes {
			if uids.has(p.FSUID) {
				of = append(of, p)
			}
		}
		if top := nodepods.Topmost(of); len(top) > 1 {
			return check{name, failed, fmt.Sprintf("user %s is that of %d processes that have nothing to do with each other: %s; their traffic is taken for the proxy's and not captured",
				uids, len(top), joined(top)), "a user of its own for the proxy (proxy.uids, securityContext.runAsUser)"}
		}
	}
	return check{name, passed, "user " + joined(f.proxyUIDs) + ": nobody else's in this namespace", ""}
}

const nearlyFull = 90 // per cent

func connectionsCheck(f facts) check {
	const name = "conntrack"
	c := f.connections
	if !c.Known {
		return check{name, skipped, "the connection tracker's numbers cannot be read here", ""}
	}
	fill := fmt.Sprintf("%d of %d connections", c.Count, c.Max)
	const remedy = "more room (sysctl -w net.netfilter.nf_conntrack_max=%s on the machine), shorter net.netfilter.nf_conntrack_tcp_timeout_established, or inbound.via: tproxy"
	double := strconv.FormatUint(2*c.Max, 10)
	switch {
	case c.Max > 0 && c.Count >= c.Max:
		return check{name, failed, fill + ": the table is full, new connections are dropped", fmt.Sprintf(remedy, double)}
	case c.Count*100 >= c.Max*nearlyFull && c.Max > 0:
		return check{name, failed, fill + ": the table is nearly full; once it is, new connections are dropped", fmt.Sprintf(remedy, double)}
	case c.Dropped > 0:
		return check{name, noted, fmt.Sprintf("%s; %d were dropped for want of room", fill, c.Dropped), fmt.Sprintf(remedy, double)}
	}
	return check{name, passed, fill, ""}
}
