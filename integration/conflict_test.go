// SPDX-License-Identifier: Apache-2.0

//go:build linux

package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/weir-mesh/weir/internal/conflict"
	"github.com/weir-mesh/weir/internal/scratch"
)

// obstacle is what stands in the way of captured traffic in a namespace, and what looks like it
// and does not.
type obstacle struct {
	why      string
	kind     conflict.Kind
	config   []string // flags of the configuration besides
	do       func(*cli)
	harmless func(*cli)

	live      []string // explain --live, of a packet that it touches
	explained string
	takes     bool // istio-init's validation fails for it
	warns     bool // the validation goes on, and names it
	noted     bool // explain --live names it on standard error
	late      bool // an apply comes before the proxy, and does not look at listeners
	may       bool // it cannot be told for certain: a note of doctor's
	own       bool // doctor has a check of its own for it
}

func tables(script string) func(*cli) { return func(c *cli) { c.nft(script) } }

func ips(lines ...string) func(*cli) {
	return func(c *cli) {
		for _, l := range lines {
			c.ip(l)
		}
	}
}

// obstacles are of every kind.
var obstacles = []obstacle{
	{why: "a foreign drop before ours", kind: conflict.Drops,
		do:       tables("table inet other {\nchain pre {\ntype filter hook prerouting priority -200; policy drop\n}\n}\n"),
		harmless: tables("table inet other {\nchain pre {\ntype filter hook prerouting priority -200\nudp dport 9 drop\n}\n}\n"),
		live:     []string{"--in", "eth0", "--from", "198.51.100.7", "tcp", "192.0.2.2:80"}, explained: "dropped: by table inet other, chain pre, policy"},
	{why: "a foreign drop that is jumped to", kind: conflict.Drops,
		do:       tables("table inet other {\nchain deeper {\ntcp dport 80 drop\n}\nchain deep {\njump deeper\n}\nchain out {\ntype filter hook output priority -150\nmeta l4proto vmap { tcp : jump deep }\n}\n}\n"),
		harmless: tables("table inet other {\nchain deeper {\ntcp dport 80 drop\n}\nchain deep {\njump deeper\n}\nchain out {\ntype filter hook output priority -150\nmeta l4proto vmap { udp : jump deep }\n}\n}\n"),
		live:     []string{"--uid", "1000", "tcp", "198.51.100.7:80"}, explained: "dropped: by table inet other, chain deeper, rule 1"},
	{why: "a foreign drop at a device, before every other hook", kind: conflict.Drops,
		do:       tables("table netdev other {\nchain c {\ntype filter hook ingress device eth0 priority 0\ntcp dport 80 drop\n}\n}\n"),
		harmless: tables("table netdev other {\nchain c {\ntype filter hook ingress device eth0 priority 0\nudp dport 9 drop\n}\nchain d {\ntype filter hook ingress device far priority 0\ntcp dport 80 drop\n}\n}\n"),
		live:     []string{"--in", "eth0", "--from", "198.51.100.7", "tcp", "192.0.2.2:80"}, explained: "dropped: by table netdev other, chain c, rule 1"},
	{why: "a foreign drop at a device, after every other hook", kind: conflict.Drops,
		do:       tables("table netdev other {\nchain c {\ntype filter hook egress device lo priority 0\ntcp dport 15001 drop\n}\n}\n"),
		harmless: tables("table netdev other {\nchain c {\ntype filter hook egress device eth0 priority 0\ntcp dport 15001 drop\n}\n}\n"),
		live:     []string{"--uid", "1000", "tcp", "198.51.100.7:80"}, explained: "dropped: by table netdev other, chain c, rule 1"},
	{why: "a foreign redirect before ours", kind: conflict.Redirects,
		do:       tables("table inet other {\nchain out {\ntype nat hook output priority -110\nmeta l4proto tcp redirect to :9999\n}\n}\n"),
		harmless: tables("table inet other {\nchain out {\ntype nat hook output priority -90\nmeta l4proto tcp redirect to :9999\n}\n}\n"),
		live:     []string{"--uid", "1000", "tcp", "198.51.100.7:80"}, explained: "taken by table inet other, chain out, rule 1: it lands on port 9999", takes: true},
	{why: "a foreign nat chain that was registered after ours", kind: conflict.Redirects,
		do:       tables("table inet other {\nchain out {\ntype nat hook output priority -100\nmeta l4proto tcp redirect to :9999\n}\n}\n"),
		harmless: tables("table inet other {\nchain out {\ntype nat hook output priority -110\nmeta l4proto tcp accept\n}\n}\n"),
		live:     []string{"--uid", "1000", "tcp", "198.51.100.7:80"}, explained: "taken by table inet other, chain out, rule 1: it lands on port 9999"},
	{why: "two foreign tables with a chain of one name", kind: conflict.Drops,
		do:       tables("table inet a {\nchain x {\ntype filter hook output priority -310\n}\n}\ntable ip b {\nchain x {\ntype filter hook output priority -305\ntcp dport 80 drop\n}\n}\n"),
		harmless: tables("table inet a {\nchain x {\n}\n}\ntable ip b {\nchain x {\n}\n}\n"),
		live:     []string{"--uid", "1000", "tcp", "198.51.100.7:80"}, explained: "dropped: by table ip b, chain x, rule 1"},
	{why: "a foreign chain that sends to an excluded destination", kind: conflict.Bypasses, config: []string{"--outbound-exclude-cidrs", "10.0.0.0/8"},
		do:       tables("table ip other {\nchain out {\ntype route hook output priority -160\nip daddr 198.51.100.0/24 ip daddr set 10.1.2.3\n}\n}\n"),
		harmless: tables("table ip other {\nchain out {\ntype route hook output priority -160\nip daddr 198.51.100.0/24 ip daddr set 11.1.2.3\nip daddr 11.1.2.3 ip daddr set 198.51.100.7\n}\n}\n"),
		live:     []string{"--uid", "1000", "tcp", "198.51.100.7:80"}, explained: "left alone: leaves by eth0"},
	{why: "two chains of one priority, of which ours was made again", kind: conflict.SamePriority, may: true,
		do: func(c *cli) {
			c.nft("table inet other {\nchain out {\ntype nat hook output priority -100\nmeta l4proto tcp redirect to :9999\n}\n}\n")
			c.ok("apply", "--mode", "sidecar", "--proxy-uids", "1337", "--routing-priority", "32765", "--inbound-exclude-ports", "9")
			c.ok("apply", "--mode", "sidecar", "--proxy-uids", "1337", "--routing-priority", "32765")
		},
		harmless: func(c *cli) {
			c.nft("table inet other {\nchain out {\ntype nat hook output priority -100\nmeta l4proto udp redirect to :9999\n}\n}\n")
			c.ok("apply", "--mode", "sidecar", "--proxy-uids", "1337", "--routing-priority", "32765", "--inbound-exclude-ports", "9")
			c.ok("apply", "--mode", "sidecar", "--proxy-uids", "1337", "--routing-priority", "32765")
		}},
	{why: "notrack of captured traffic", kind: conflict.Untracks,
		do:       tables("table inet other {\nchain out {\ntype filter hook output priority -300\nip daddr 198.51.100.0/24 notrack\n}\n}\n"),
		harmless: tables("table inet other {\nchain out {\ntype filter hook output priority -300\nudp dport 4789 notrack\n}\n}\n"),
		live:     []string{"--uid", "1000", "tcp", "198.51.100.7:80"}, explained: "left alone: leaves by eth0", takes: true},
	{why: "marks that ours go by", kind: conflict.ChangesMarks, config: byTProxy,
		do:       tables("table inet other {\nchain out {\ntype route hook output priority -160\nmeta mark set 0x80000\n}\n}\n"),
		harmless: tables("table inet other {\nchain out {\ntype filter hook output priority -160\nmeta mark set meta mark or 0x80000\n}\n}\n")},
	{why: "a policy rule in front", kind: conflict.PolicyRuleFirst, config: byTProxy,
		do:       ips("route add default dev lo table 52", "rule add pref 100 lookup 52"),
		harmless: ips("route add default dev lo table 52", "rule add pref 100 fwmark 7 lookup 52")},
	{why: "a route in our place", kind: conflict.RouteInPlace, config: byTProxy,
		do: ips("route add 203.0.113.0/24 dev eth0 table 133"), harmless: ips("route add 203.0.113.0/24 dev eth0 table 134")},
	{why: "an address in our place", kind: conflict.AddressElsewhere, config: byTProxy,
		do: ips("-6 addr add ::6/128 dev eth0 nodad"), harmless: ips("-6 addr add ::7/128 dev eth0 nodad")},
	{why: "an interface without an address to redirect to", kind: conflict.NoAddress, config: []string{"--interfaces-reroute", "tap0"},
		do: func(c *cli) { c.bridged(); c.ip("addr flush dev tap0") },
		harmless: func(c *cli) {
			c.bridged() // whose ports have no address, and no packet comes in by them
			c.ip("link add port0 type veth peer name port1")
			c.ip("link add br0 type bridge")
			c.ip("addr add 198.18.8.1/24 dev br0")
			c.ip("link set port0 up master br0")
			c.ip("link set br0 up")
		}},
	{why: "lo is down", kind: conflict.LoopbackDown, own: true, do: ips("link set lo down"), harmless: ips("link set far down")},
	{why: "the proxy does not listen", kind: conflict.NoListener, late: true,
		do: func(*cli) {}, harmless: func(c *cli) { c.listens(listening{uid: 1337, transparent: true}) },
		live: []string{"--uid", "1000", "tcp", "198.51.100.7:80"}, explained: "port 15001; original destination 198.51.100.7:80, where no socket listens"},
	{why: "the proxy's listener is not transparent", kind: conflict.NotTransparent, late: true, config: byTProxy,
		do: func(c *cli) { c.listens(listening{uid: 1337}) }, harmless: func(c *cli) { c.listens(listening{uid: 1337, transparent: true}) },
		live: []string{"--in", "eth0", "--from", "198.51.100.7", "tcp", "192.0.2.2:80"}, explained: "dropped: by table inet weir, chain tproxy_deliver"},
	{why: "the proxy listens on IPv4 alone", kind: conflict.OneFamily, late: true,
		do: func(c *cli) { c.listens(listening{uid: 1337, only: "4"}) }, harmless: func(c *cli) { c.listens(listening{uid: 1337}) },
		live: []string{"--uid", "1000", "tcp", "[2001:db8::7]:80"}, explained: "original destination [2001:db8::7]:80, where no socket listens"},
	{why: "another user holds the proxy's ports", kind: conflict.ForeignListener, late: true,
		do: func(c *cli) { c.listens(listening{uid: 1000}) }, harmless: func(c *cli) { c.listens(listening{uid: 1337}) }},
	{why: "another capture engine", kind: conflict.OtherEngine, own: true,
		do:       tables("table inet istio-proxy-nat {\nchain prerouting {\ntype nat hook prerouting priority -100\nmeta l4proto tcp redirect to :15006\n}\n}\n"),
		harmless: tables("table inet istiod-stats {\nchain prerouting {\ntype filter hook prerouting priority 10\nmeta l4proto tcp counter\n}\n}\n")},
	{why: "a program on the cgroup's connect hook", kind: conflict.ConnectProgram, may: true, warns: true, noted: true,
		do: attached(connect4, "cil_sock4_conne"), harmless: attached(sockCreate, "cil_sock_create"),
		live: []string{"--uid", "1000", "tcp", "198.51.100.7:80"}, explained: "captured: lands on port 15001"},
	{why: "a program on the connect hook of IPv6", kind: conflict.ConnectProgram, may: true, warns: true, noted: true,
		do: attached(connect6, ""), harmless: attached(bind4, ""),
		live: []string{"--uid", "1000", "udp", "198.51.100.7:53"}, explained: "left alone: leaves by eth0"},
	{why: "IPv6 that appeared since the apply", kind: conflict.NewIPv6, may: true,
		do: ips("-6 addr add 2001:db8:1::2/64 dev eth0 nodad"), harmless: ips("-6 addr add fe80::77/64 dev eth0 nodad")},
	{why: "an interface that came after the apply", kind: conflict.NewInterface, may: true, config: []string{"--interfaces-exclude", "tap+"},
		do:       ips("link add net1 type veth peer name net1p", "addr add 198.18.9.2/24 dev net1", "link set net1 up"),
		harmless: ips("link add tap1 type veth peer name net1p", "addr add 198.18.9.2/24 dev tap1", "link set tap1 up"),
		live:     []string{"--uid", "1000", "--device", "net1", "tcp", "198.51.100.7:80"}, explained: "dropped: by table inet weir, chain postrouting"},
}

var byTProxy = []string{"--inbound-via", "tproxy"}

// bridged gives the namespace a virtual machine's interface.
func (c *cli) bridged() {
	c.ip("link add tap0 type veth peer name machine")
	c.ip("addr add 198.18.9.1/24 dev tap0")
	c.ip("addr add 198.18.9.2/24 dev machine")
	c.ip("addr add 192.0.2.1/24 dev far")
	c.ip("link set machine up")
	c.ip("link set tap0 up")
	c.must("", "sysctl", "-qw", "net.ipv4.ip_forward=1")
}

// listening is a proxy that listens where captured traffic goes.
type listening struct {
	uid         uint32
	only        string
	transparent bool
}

func (c *cli) listens(l listening) {
	c.Helper()
	ns, err := scratch.OpenNamespace(fmt.Sprintf("/proc/self/fd/%d", c.file.Fd()))
	if err != nil {
		c.Fatal(err)
	}
	ports := []uint16{15001, 15006}
	of := scratch.Listeners{Name: "proxy", Identity: scratch.Identity{UID: l.uid, GID: l.uid}, TCP: ports, Only: l.only}
	if l.transparent {
		of.Transparent = ports
	}
	s, err := of.Serve(context.Background(), ns)
	if err != nil {
		c.Fatal(err)
	}
	c.Cleanup(func() { _, _ = s.Close(), ns.Close() })
}

// TestObstacles: what each command answers beside each conflict, and that it says nothing of
// what is harmless; of explain and validation in full, in testdata/obstacles.txt.
func TestObstacles(t *testing.T) {
	needUsers(t)
	all := newCLI(t)
	var said strings.Builder
	for _, tt := range obstacles {
		for _, bad := range []bool{true, false} {
			name := tt.why
			if !bad {
				name += ", which is harmless"
			}
			t.Run(name, func(t *testing.T) {
				c := all.elsewhere(t)
				c.pod(tt.kind)
				config := append([]string{"--mode", "sidecar", "--proxy-uids", "1337", "--routing-priority", "32765"}, tt.config...)
				c.ok(append([]string{"apply"}, config...)...)
				if bad {
					tt.do(c)
				} else {
					tt.harmless(c)
				}
				subject := c.answers(t, tt, bad, config)
				if subject == "" {
					subject = tt.subject()
				}
				if tt.live != nil && (bad || tt.noted) {
					o := c.run(append([]string{"explain", "--live"}, tt.live...)...).want(t, 0).prints(t, tt.explained)
					if tt.noted && bad != strings.Contains(o.errs, "note: "+subject) {
						t.Errorf("explain notes it: %v, want %v: %s", !bad, bad, o)
					}
				}
				if tt.takes || tt.warns {
					code := map[bool]int{true: 126}[tt.takes && bad]
					o := c.run("istio-init", "-p", "15001", "-z", "15006", "-u", "1337", "-m", "REDIRECT", "-i", "*", "-b", "*", "--run-validation", "--probe-timeout", "2s").want(t, code)
					said := map[bool]string{true: "validation: " + subject, false: `level=WARN msg="` + subject}[tt.takes]
					if bad != strings.Contains(o.errs, said) {
						t.Errorf("validation says %q: %v, want %v: %s", said, !bad, bad, o)
					}
				}
				fmt.Fprintf(&said, "%s\n%s%s\n", name, c.explainedAt(tt), c.validated())
			})
		}
	}
	golden(t, "testdata/obstacles.txt", said.String())
}

// explainedAt is what explain says becomes of a packet in the namespace as it is.
func (c *cli) explainedAt(o obstacle) string {
	args := []string{"--uid", "1000", "tcp", "198.51.100.7:80"}
	if o.live != nil {
		args = o.live
	}
	r := c.run(append([]string{"explain", "--live"}, args...)...)
	paragraphs := strings.Split(strings.TrimSpace(r.out), "\n\n")
	return fmt.Sprintf("$ weir %s\n%s\n%s", strings.Join(r.args, " "), paragraphs[len(paragraphs)-1], r.errs)
}

// howItFailed depends on whether the kernel gives a connection up before the probe does.
var howItFailed = regexp.MustCompile(`is not captured \((i/o timeout|connect: connection refused|connect: no route to host)\)`)

// validated is how istio-init's validation ends, and what it says.
func (c *cli) validated() string {
	r := c.run("istio-init", "-p", "15001", "-z", "15006", "-u", "1337", "-m", "REDIRECT", "-i", "*", "-b", "*", "--run-validation", "--probe-timeout", "2s")
	_, said, _ := strings.Cut(r.errs, "msg=applied ")
	lines := strings.Split(strings.TrimSpace(said), "\n")[1:]
	for i, l := range lines {
		_, lines[i], _ = strings.Cut(l, " ") // the time
	}
	text := fmt.Sprintf("$ weir istio-init --run-validation\n  %s\n  exit %d\n", strings.Join(lines, "\n  "), r.code)
	return howItFailed.ReplaceAllString(text, "is not captured")
}

// golden compares text with a file; -update writes it.
func golden(t *testing.T, file, text string) {
	t.Helper()
	want, err := os.ReadFile(file)
	switch {
	case *update:
		err = os.WriteFile(file, []byte(text), 0o644)
	case err == nil && string(want) != text:
		t.Errorf("go test ./integration -run %s -update would change %s\n%s", t.Name(), file, changed(string(want), text))
	}
	if err != nil {
		t.Error(err)
	}
}

// pod makes the namespace a pod's, of both families but where one is to come.
func (c *cli) pod(k conflict.Kind) {
	c.ip("link add eth0 type veth peer name far")
	c.ip("addr add 192.0.2.2/24 dev eth0")
	if slices.Contains([]conflict.Kind{conflict.OneFamily, conflict.NoListener, conflict.AddressElsewhere}, k) {
		c.ip("-6 addr add 2001:db8:1::2/64 dev eth0 nodad")
	}
	c.ip("link set far up")
	c.ip("link set eth0 up")
	c.ip("route add default via 192.0.2.1")
	if k == conflict.OneFamily {
		c.ip("-6 route add default via 2001:db8:1::1")
	}
}

// subject begins what is said of the conflict.
func (o obstacle) subject() string {
	if o.kind == conflict.ConnectProgram {
		return "programs on the cgroup's connect hook"
	}
	return "chain "
}

// answers asks each command whether it knows of the conflict, and is what they say stands in the way.
func (c *cli) answers(t *testing.T, o obstacle, bad bool, config []string) (subject string) {
	t.Helper()
	type found struct{ Kind, Subject, Does, Remedy string }
	find := func(command, text string, knows bool) (subject string) {
		t.Helper()
		var a struct{ Conflicts []found }
		if err := json.Unmarshal([]byte(text), &a); err != nil {
			t.Fatalf("%s: %v in %s", command, err, text)
		}
		i := slices.IndexFunc(a.Conflicts, func(f found) bool { return f.Kind == string(o.kind) })
		if (i >= 0) != knows {
			t.Errorf("%s knows of %s: %v, want %v: %+v", command, o.kind, i >= 0, knows, a.Conflicts)
		}
		if i < 0 {
			return ""
		}
		if a.Conflicts[i].Remedy == "" {
			t.Errorf("%s has no remedy for %+v", command, a.Conflicts[i])
		}
		return a.Conflicts[i].Subject
	}
	compared := config
	if o.kind == conflict.NewIPv6 {
		compared = nil // with the configuration it is drift: an apply would capture IPv6
	}
	subject = find("verify", c.run(append([]string{"verify", "--json"}, compared...)...).out, bad)
	find("show", c.run("show", "--json").out, bad)
	report := jsonOf[doctorReport](t, c.run("doctor", "--json").out)
	if o.kind != conflict.NewIPv6 && o.kind != conflict.NewInterface { // which an apply sees to
		find("apply", c.run(append([]string{"apply", "--json"}, config...)...).want(t, 0).out, bad && !o.late)
	}
	if o.own {
		return subject // doctor has a check of its own
	}
	status := map[bool]string{false: "failed", true: "note"}[o.may]
	told := slices.ContainsFunc(report.Checks, func(f struct{ Check, Status, Finding, Remedy string }) bool {
		return f.Check == "captured traffic" && f.Status == status && (bad && strings.HasPrefix(f.Finding, subject) ||
			!bad && !strings.HasPrefix(f.Finding, "no listener")) // which there is none of in most
	})
	if told != bad {
		t.Errorf("doctor tells of %s: %v, want %v: %+v", o.kind, told, bad, report.Checks)
	}
	if drawn := strings.Contains(c.ok("graph", "--live"), "in the way: "+subject); bad && drawn == o.kind.OfListeners() { // which a graph leaves out
		t.Errorf("graph tells of %s: %v", o.kind, drawn)
	}
	return subject
}
