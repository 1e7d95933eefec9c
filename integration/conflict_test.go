//go:build linux

package integration

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/weir-mesh/weir/internal/conflict"
)

// onCall is what stands in the way of captured traffic in a namespace, and what looks
// like it and does not.
var onCall = []struct {
	why       string
	kind      conflict.Kind
	via       string // inbound.via, "" for redirect
	do        func(*cli)
	harmless  func(*cli)
	live      []string // explain --live, of a packet that it touches
	explained string
	takes     bool // istio-init's validation fails for it
}{
	{"a foreign drop before ours", conflict.Drops, "",
		func(c *cli) {
			c.nft("table inet other {\nchain pre {\ntype filter hook prerouting priority -200; policy drop\n}\n}\n")
		},
		func(c *cli) {
			c.nft("table inet other {\nchain pre {\ntype filter hook prerouting priority -200\nudp dport 9 drop\n}\n}\n")
		},
		[]string{"--in", "eth0", "--from", "198.51.100.7", "tcp", "192.0.2.2:80"}, "dropped: by table inet other, chain pre, policy", false},
	{"a foreign redirect before ours", conflict.Redirects, "",
		func(c *cli) {
			c.nft("table inet other {\nchain out {\ntype nat hook output priority -110\nmeta l4proto tcp redirect to :9999\n}\n}\n")
		},
		func(c *cli) {
			c.nft("table inet other {\nchain out {\ntype nat hook output priority -90\nmeta l4proto tcp redirect to :9999\n}\n}\n")
		},
		[]string{"--uid", "1000", "tcp", "198.51.100.7:80"}, "taken by table inet other, chain out, rule 1: it lands on port 9999", true},
	{"a foreign nat chain that was registered after ours", conflict.Redirects, "",
		func(c *cli) {
			c.nft("table inet other {\nchain out {\ntype nat hook output priority -100\nmeta l4proto tcp redirect to :9999\n}\n}\n")
		},
		func(c *cli) {
			c.nft("table inet other {\nchain out {\ntype nat hook output priority -110\nmeta l4proto tcp accept\n}\n}\n")
		},
		[]string{"--uid", "1000", "tcp", "198.51.100.7:80"}, "taken by table inet other, chain out, rule 1: it lands on port 9999", false},
	{"two foreign tables with a chain of one name", conflict.Drops, "",
		func(c *cli) {
			c.nft("table inet a {\nchain x {\ntype filter hook output priority -310\n}\n}\ntable ip b {\nchain x {\ntype filter hook output priority -305\ntcp dport 80 drop\n}\n}\n")
		},
		func(c *cli) { c.nft("table inet a {\nchain x {\n}\n}\ntable ip b {\nchain x {\n}\n}\n") },
		[]string{"--uid", "1000", "tcp", "198.51.100.7:80"}, "dropped: by table ip b, chain x, rule 1", false},
	{"notrack of captured traffic", conflict.Untracks, "",
		func(c *cli) {
			c.nft("table inet other {\nchain out {\ntype filter hook output priority -300\nip daddr 198.51.100.0/24 notrack\n}\n}\n")
		},
		func(c *cli) {
			c.nft("table inet other {\nchain out {\ntype filter hook output priority -300\nudp dport 4789 notrack\n}\n}\n")
		},
		[]string{"--uid", "1000", "tcp", "198.51.100.7:80"}, "left alone: leaves by eth0", true},
	{"marks that ours go by", conflict.ChangesMarks, "tproxy",
		func(c *cli) {
			c.nft("table inet other {\nchain out {\ntype route hook output priority -160\nmeta mark set 0x80000\n}\n}\n")
		},
		func(c *cli) {
			c.nft("table inet other {\nchain out {\ntype filter hook output priority -160\nmeta mark set meta mark or 0x80000\n}\n}\n")
		}, nil, "", false},
	{"a policy rule in front", conflict.PolicyRuleFirst, "tproxy",
		func(c *cli) { c.ip("route add default dev lo table 52"); c.ip("rule add pref 100 lookup 52") },
		func(c *cli) { c.ip("route add default dev lo table 52"); c.ip("rule add pref 100 fwmark 7 lookup 52") }, nil, "", false},
	{"a route in our place", conflict.RouteInPlace, "tproxy",
		func(c *cli) { c.ip("route add 203.0.113.0/24 dev eth0 table 133") },
		func(c *cli) { c.ip("route add 203.0.113.0/24 dev eth0 table 134") }, nil, "", false},
	{"lo is down", conflict.LoopbackDown, "",
		func(c *cli) { c.ip("link set lo down") }, func(c *cli) { c.ip("link set far down") }, nil, "", false},
}

// TestOnCall: what each command answers beside each conflict, and that it says nothing of
// what is harmless.
func TestOnCall(t *testing.T) {
	all := newCLI(t)
	for _, tt := range onCall {
		for _, bad := range []bool{true, false} {
			name := tt.why
			if !bad {
				name += ", which is harmless"
			}
			t.Run(name, func(t *testing.T) {
				c := all.elsewhere(t)
				c.ip("link add eth0 type veth peer name far")
				c.ip("addr add 192.0.2.2/24 dev eth0")
				c.ip("link set far up")
				c.ip("link set eth0 up")
				c.ip("route add default via 192.0.2.1")
				config := []string{"--mode", "sidecar", "--proxy-uids", "1337", "--routing-priority", "32765"}
				if tt.via != "" {
					config = append(config, "--inbound-via", tt.via)
				}
				c.ok(append([]string{"apply"}, config...)...)
				if bad {
					tt.do(c)
				} else {
					tt.harmless(c)
				}
				c.answers(t, tt.kind, bad, config)
				if bad && tt.live != nil {
					c.run(append([]string{"explain", "--live"}, tt.live...)...).want(t, 0).prints(t, tt.explained)
				}
				if c.run(append([]string{"verify"}, config...)...); tt.takes {
					code := 0
					if bad {
						code = 126
					}
					c.run("istio-init", "-p", "15001", "-z", "15006", "-u", "1337", "-m", "REDIRECT", "-i", "*", "-b", "*", "--run-validation", "--probe-timeout", "2s").want(t, code)
				}
			})
		}
	}
}

// answers asks each command whether it knows of the conflict.
func (c *cli) answers(t *testing.T, kind conflict.Kind, bad bool, config []string) {
	t.Helper()
	type answer struct {
		Clean     bool
		Conflicts []struct{ Kind, Subject, Does, Remedy string }
	}
	find := func(command, text string) (subject string) {
		t.Helper()
		var a answer
		if err := json.Unmarshal([]byte(text), &a); err != nil {
			t.Fatalf("%s: %v in %s", command, err, text)
		}
		i := slices.IndexFunc(a.Conflicts, func(f struct{ Kind, Subject, Does, Remedy string }) bool { return f.Kind == string(kind) })
		if (i >= 0) != bad {
			t.Errorf("%s knows of %s: %v, want %v: %+v", command, kind, i >= 0, bad, a.Conflicts)
		}
		if i < 0 {
			return ""
		}
		if a.Conflicts[i].Remedy == "" {
			t.Errorf("%s has no remedy for %+v", command, a.Conflicts[i])
		}
		return a.Conflicts[i].Subject
	}
	verified := c.run(append([]string{"verify", "--json"}, config...)...)
	subject := find("verify", verified.out)
	find("show", c.run("show", "--json").out)
	find("apply", c.run(append([]string{"apply", "--json"}, config...)...).want(t, 0).out)
	if kind == conflict.LoopbackDown {
		return // doctor has a check of its own
	}
	report := jsonOf[doctorReport](t, c.run("doctor", "--json").out)
	failed := slices.ContainsFunc(report.Checks, func(f struct{ Check, Status, Finding, Remedy string }) bool {
		return f.Check == "captured traffic" && f.Status == "failed" && (bad && strings.HasPrefix(f.Finding, subject) ||
			!bad && !strings.HasPrefix(f.Finding, "no listener")) // which there is none of in either
	})
	if failed != bad {
		t.Errorf("doctor fails %s: %v, want %v: %+v", kind, failed, bad, report.Checks)
	}
}
