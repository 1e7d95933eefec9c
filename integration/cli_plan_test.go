// SPDX-License-Identifier: Apache-2.0

//go:build linux

package integration

import (
	"reflect"
	"regexp"
	"strings"
	"testing"
)

// dualStack gives the namespace a way out in both families.
func (c *cli) dualStack() {
	c.Helper()
	c.outside()
	c.ip("addr add 2001:db8:18::2/64 dev eth0 nodad")
}

// planned are configurations that between them hold a bit of everything.
var planned = map[string]string{
	"the default":     "",
	"by TPROXY":       "inbound: {via: tproxy}\n",
	"ports":           "inbound: {includePorts: [80, 8000-8100]}\noutbound: {excludePorts: [22, 6000-7000], includePorts: [443], includeCIDRs: [10.0.0.0/8]}\n",
	"prefixes":        "outbound: {excludeCIDRs: [10.0.0.0/8, 10.1.0.0/16, 192.0.2.1, 'fd00::/8', 0.0.0.0/1]}\n",
	"DNS, interfaces": "dns: {capture: servers, servers: [10.96.0.10, 'fd00::10']}\ninterfaces: {exclude: [eth1, 'veth*'], reroute: [tap0]}\n",
	"owners":          "outbound: {includeGIDs: [202], excludeUIDs: [0, 5]}\ndns: {capture: all}\ndropInvalid: true\n",
	"IPv6 off":        "ipv6: off\ninbound: {via: none}\n",
}

// TestPlanIsAScript: what nft makes of a plan is what an apply makes of the
// configuration.
func TestPlanIsAScript(t *testing.T) {
	t.Parallel()
	shared := newCLI(t)
	for why, more := range planned {
		t.Run(why, func(t *testing.T) {
			t.Parallel()
			applied, loaded := shared.elsewhere(t), shared.elsewhere(t)
			applied.dualStack()
			loaded.dualStack()
			pod := write(t, "pod.yaml", podYAML+more)
			applied.ok("apply", "-f", pod)
			script := loaded.ok("plan", "-f", pod)
			for range 2 {
				loaded.nft(script)
				got, want := loaded.shown().uncounted(), applied.shown().uncounted()
				if !got.Drifted || got.Written != "" {
					t.Errorf("nft wrote a tag: %+v", got)
				}
				if !reflect.DeepEqual(got.Chains, want.Chains) || !reflect.DeepEqual(got.Sets, want.Sets) {
					t.Errorf("nft made\n%+v\n%+v\nof\n%s\nweir made\n%+v\n%+v", got.Chains, got.Sets, script, want.Chains, want.Sets)
				}
			}
			for line := range strings.Lines(script) {
				if command, routing := strings.CutPrefix(line, "# ip "); routing {
					loaded.ip(command)
				}
			}
			if d := changed(applied.captureRouting(), loaded.captureRouting()); d != "" {
				t.Errorf("the routing differs:\n%s", d)
			}
			loaded.nft(shared.elsewhere(t).ok("plan", "--mode", "none"))
			if tables := loaded.tables(); len(tables) > 0 {
				t.Errorf("a plan of nothing left %v", tables)
			}
		})
	}
}

// captureRouting is what of the namespace's routing a sidecar may need, whoever
// made it.
func (c *cli) captureRouting() string {
	c.Helper()
	routing := c.ip("-4 rule") + c.ip("-6 rule") + c.ip("addr show dev lo")
	for line := range strings.Lines(c.ip("-4 route show table all") + c.ip("-6 route show table all")) {
		if strings.Contains(line, " table 133 ") {
			routing += line
		}
	}
	return addressProtocol.ReplaceAllString(strings.ReplaceAll(routing, " tentative", ""), "$1")
}

// addressProtocol is what newer ip(8) shows of an address, and not every one can
// set.
var addressProtocol = regexp.MustCompile(`(?m)^(\s+inet.*) proto \d+`)

func TestPlanCompares(t *testing.T) {
	t.Parallel()
	c := newCLI(t)
	pod := write(t, "pod.yaml", podYAML)
	plan := func(code int, args ...string) planJSON {
		t.Helper()
		p := jsonOf[planJSON](t, c.run(append([]string{"plan", "--json", "-f", pod}, args...)...).want(t, code).out)
		if p.Table != "weir" || p.NotCompared != "" || p.Differences == nil || p.Routing == nil || !strings.Contains(p.Ruleset, "redirect to :15001") {
			t.Errorf("the plan is %+v", p)
		}
		return p
	}
	changes := c.watch()
	if p := plan(0); len(p.Differences) != 1 {
		t.Errorf("nothing is there, and the plan says %+v", p.Differences)
	}
	plan(3, "--exit-code")
	if sent := changes(); len(sent) > 0 {
		t.Errorf("plan sent %v", sent)
	}
	c.run("plan", "-f", pod).prints(t, "\n# what differs from now:\n# table inet weir is missing\n")
	c.ok("apply", "-f", pod)
	if p := plan(0, "--exit-code"); len(p.Differences) != 0 {
		t.Errorf("all is there, and the plan says %+v", p.Differences)
	}
	c.run("plan", "-f", pod).prints(t, "\n# nothing differs from now\n")
	if p := plan(3, "--exit-code", "--inbound-via", "tproxy"); len(p.Differences) == 0 || len(p.Routing) == 0 {
		t.Errorf("much differs, and the plan says %+v", p)
	}
	c.run("plan", "--mode", "none", "--exit-code").want(t, 3).prints(t, "delete table inet weir", "# what differs from now:")
	c.run("plan", "-f", pod, "--dns-capture", "servers", "--dns-servers", "none").want(t, 0)
}

// TestWithoutPrivileges: a plan needs none, and what does says so.
func TestWithoutPrivileges(t *testing.T) {
	t.Parallel()
	needUsers(t)
	c := newCLI(t)
	c.dualStack()
	pod := write(t, "pod.yaml", podYAML)
	whole := c.ok("plan", "-f", pod)
	anyone := c.with(func(c *cli) { c.uid = 65534 })
	const why = "not permitted: this needs CAP_NET_ADMIN in the network namespace: " // and how to get it, which depends on where this runs
	o := anyone.run("plan", "-f", pod).want(t, 0).prints(t, "\n# not compared with what is live: ", why)
	if a, b := withoutVerdict(whole), withoutVerdict(o.out); a != b {
		t.Errorf("the plan of root is\n%s\nand of anyone\n%s", a, b)
	}
	p := jsonOf[planJSON](t, anyone.ok("plan", "-f", pod, "--json"))
	if !strings.Contains(p.NotCompared, why) || len(p.Differences) > 0 {
		t.Errorf("the plan says %+v", p)
	}
	anyone.run("plan", "-f", pod, "--exit-code").want(t, 1).says(t, why)
	for _, args := range [][]string{{"apply", "-f", pod}, {"verify"}, {"verify", "-f", pod}, {"show"}, {"remove"}} {
		anyone.run(args...).want(t, 1).says(t, why)
	}
	anyone.run("istio-init", "-i", "*").want(t, 1).says(t, why)
	anyone.run("istio-init", "-i", "*", "--dry-run").want(t, 0).prints(t, "redirect to :15001")
	if tables := c.tables(); len(tables) > 0 {
		t.Errorf("there are tables %v", tables)
	}
}

// withoutVerdict is a plan without what it says of now.
func withoutVerdict(plan string) string {
	script, _, _ := strings.Cut(plan, "\n# what differs")
	script, _, _ = strings.Cut(script, "\n# not compared")
	return script
}
