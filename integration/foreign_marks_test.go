// SPDX-License-Identifier: Apache-2.0

//go:build linux

package integration

import (
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/weir-mesh/weir/internal/lab"
	"github.com/weir-mesh/weir/internal/scratch"
	"github.com/weir-mesh/weir/rules"
)

// answerPatience is how long an answer may take that must come: a loaded machine is slow.
const answerPatience = 10 * time.Second

// captured is a pod of the lab in which a configuration is in force.
type captured struct {
	*testing.T
	*lab.Pod
	root string // the folder in which weir runs
}

// capturedPod applies a configuration in a new pod.
func capturedPod(t *testing.T, proxy scratch.Identity, env []string, stdin string, args ...string) captured {
	t.Helper()
	pod, err := lab.NewPod(t.Context(), proxy)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := pod.Close(); err != nil {
			t.Error(err)
		}
	})
	c := captured{t, pod, podRoot(t)}
	c.weir(env, stdin, args...)
	return c
}

// weir runs it in the pod.
func (c captured) weir(env []string, stdin string, args ...string) (stdout string) {
	c.Helper()
	cmd, out, errs := (&cli{chroot: c.root, env: env}).command(stdin, args...)
	if err := c.Do(cmd.Run); err != nil {
		c.Fatalf("%s: %v\n%s%s", cmd, err, out, errs)
	}
	return out.String()
}

func (c captured) nft(script string) {
	c.Helper()
	cmd := exec.Command("nft", "-f", "-")
	var errs strings.Builder
	cmd.Stdin, cmd.Stderr = strings.NewReader(script), &errs
	if err := c.Do(cmd.Run); err != nil {
		c.Fatalf("nft: %v\n%s\n%s", err, &errs, script)
	}
}

// lands wants the listener that a probe must reach.
func (c captured) lands(p scratch.Probe, want string) {
	c.Helper()
	ns := c.Namespace
	if p.Namespace == "peer" {
		ns = c.Peer
	}
	got, err := p.Send(c.Context(), ns, answerPatience)
	if err != nil {
		c.Fatal(err)
	}
	if got.Land != want || p.Spoof && got.Src != scratch.SourceKept {
		c.Errorf("%s: it landed at %s, want %s", p.ID, got, want)
	}
}

// labAddresses are those of the lab's pod and its peer, by family.
var labAddresses = map[rules.Family]struct{ pod, peer netip.Addr }{
	rules.IPv4: {netip.MustParseAddr("198.18.0.2"), netip.MustParseAddr("198.18.0.1")},
	rules.IPv6: {netip.MustParseAddr("2001:db8:18::2"), netip.MustParseAddr("2001:db8:18::1")},
}

// markWriters are tables in which another program sets one bit of a mark, that Tailscale
// and others use, before and after every chain of a capture.
func markWriters() map[string]string {
	tables := map[string]string{"nobody": "table inet others {\n}\n"}
	for _, hook := range []string{"prerouting", "output"} {
		for _, mark := range []string{"meta", "ct"} {
			for _, at := range []int{-160, -140} {
				tables[fmt.Sprintf("%s mark in %s at %d", mark, hook, at)] = fmt.Sprintf(
					"table inet others {\n chain c {\n type filter hook %s priority %d\n %s mark set %s mark or 0x80000\n }\n}\n", hook, at, mark, mark)
			}
		}
	}
	return tables
}

// TestForeignMarks: another program's bit in the packet's or the connection's
// mark, set before or after ours, in either hook and family, hides no mark of ours.
func TestForeignMarks(t *testing.T) {
	t.Parallel()
	needUsers(t)
	const ours, extra = 0x539, 0x40539
	sidecar := "version: 1\nmode: sidecar\nproxy: {uids: [1337]}\ninbound: {via: tproxy}\n"
	istio := []string{"istio-init", "-p", "15001", "-z", "15006", "-u", "1337", "-m", "TPROXY", "-i", "*", "-b", "*", "--dual-stack"}
	onward := func(mark uint32, a netip.Addr, client netip.Addr) scratch.Probe {
		return scratch.Probe{Namespace: "pod", UID: 1000, GID: 1000, Mark: mark, Src: client, Spoof: true, Dst: a, DPort: 8080}
	}
	type expected struct {
		why   string
		probe func(pod, peer netip.Addr) scratch.Probe
		land  string
	}
	inbound := expected{"what comes in reaches the inbound listener",
		func(pod, peer netip.Addr) scratch.Probe {
			return scratch.Probe{Namespace: "peer", UID: 1000, GID: 1000, Dst: pod, DPort: 8080}
		}, "pod:15006"}
	answered := expected{"the proxy's call with the client's address is answered",
		func(pod, peer netip.Addr) scratch.Probe { return onward(ours, pod, peer) }, "pod:8080"}
	extraBits := expected{"a socket's mark with further bits is the proxy's too",
		func(pod, peer netip.Addr) scratch.Probe { return onward(extra, pod, peer) }, "pod:8080"}
	ownCall := expected{"the proxy's call to its own pod is inbound",
		func(pod, peer netip.Addr) scratch.Probe {
			return scratch.Probe{Namespace: "pod", UID: 1337, GID: 1337, Dst: pod, DPort: 15008}
		}, "pod:15006"}
	leaves := func(mark uint32) expected {
		return expected{"what the proxy sends is not captured",
			func(pod, peer netip.Addr) scratch.Probe {
				return scratch.Probe{Namespace: "pod", UID: 1000, GID: 1000, Mark: mark, Dst: peer, DPort: 80}
			}, "peer:7000"}
	}
	for _, tt := range []struct {
		why   string
		proxy scratch.Identity
		env   []string
		stdin string
		args  []string
		want  []expected
	}{
		{"a sidecar by TPROXY", scratch.Identity{UID: 1337, GID: 1337}, nil, sidecar, []string{"apply", "-f", "-"},
			[]expected{inbound, answered, extraBits, ownCall}},
		{"a sidecar by TPROXY, for listed ports", scratch.Identity{UID: 1337, GID: 1337}, nil, sidecar, []string{"apply", "-f", "-", "--inbound-include-ports", "8080,15008"},
			[]expected{inbound, answered, extraBits, ownCall}},
		{"marks under a mask of their own", scratch.Identity{UID: 1337, GID: 1337}, nil, sidecar + "routing: {mark: 0x539/0xffff, loopMark: 0x53a/0xffff}\n", []string{"apply", "-f", "-"},
			[]expected{inbound, answered, extraBits, ownCall}},
		{"istio-init with a mask", scratch.Identity{UID: 1337, GID: 1337}, []string{"WEIR_MARK_MASK=0xfff"}, "", istio,
			[]expected{inbound, answered, extraBits, ownCall}},
		{"a proxy that its mark tells", scratch.Identity{Mark: ours}, nil, "version: 1\nmode: sidecar\nproxy: {mark: 0x539}\n", []string{"apply", "-f", "-"},
			[]expected{leaves(ours), leaves(extra), {"what comes in reaches the inbound listener", inbound.probe, "pod:15006"}}},
		{"a proxy that its mark tells, under its own mask", scratch.Identity{Mark: 0x20000}, nil, "version: 1\nmode: sidecar\nproxy: {mark: 0x20000/0x30000}\n", []string{"apply", "-f", "-"},
			[]expected{leaves(0x20000), leaves(0x60539)}},
		{"an ambient pod", scratch.Identity{Mark: ours}, nil, "", []string{"ambient", "--v6"},
			[]expected{inbound, answered, extraBits, leaves(ours), leaves(extra)}},
		{"an ambient pod, whose marks have the common mask", scratch.Identity{Mark: ours}, nil, "",
			[]string{"ambient", "--v6", "--proxy-mark", "0x539", "--routing-mark", "0x111"}, []expected{inbound, answered, extraBits, leaves(ours), leaves(extra)}},
	} {
		t.Run(tt.why, func(t *testing.T) {
			t.Parallel()
			pod := capturedPod(t, tt.proxy, tt.env, tt.stdin, tt.args...)
			for who, table := range markWriters() {
				pod.nft(table)
				for family, a := range labAddresses {
					for _, e := range tt.want {
						p := e.probe(a.pod, a.peer)
						p.ID, p.Proto = fmt.Sprintf("%s, %s, %s", who, family, e.why), "tcp"
						pod.lands(p, e.land)
					}
				}
				pod.nft("delete table inet others")
			}
		})
	}
}

// TestForeignMarksAreKept: what others set in a mark is there after ours was set.
func TestForeignMarksAreKept(t *testing.T) {
	t.Parallel()
	needUsers(t)
	for _, tt := range []struct {
		why, stdin string
		args       []string
		want       string // of the connection that the proxy opens with the client's address
	}{
		{"a sidecar by TPROXY", "version: 1\nmode: sidecar\nproxy: {uids: [1337]}\ninbound: {via: tproxy}\n", []string{"apply", "-f", "-"}, "mark=0x80539"},
		{"an ambient pod", "", []string{"ambient", "--v6"}, "mark=0x80111"},
	} {
		t.Run(tt.why, func(t *testing.T) {
			t.Parallel()
			pod := capturedPod(t, scratch.Identity{UID: 1337, GID: 1337, Mark: 0x539}, nil, tt.stdin, tt.args...)
			pod.nft(`table inet others {
	counter lost { }
	chain early {
		type filter hook output priority -160
		meta mark set meta mark or 0x80000
	}
	chain first {
		type filter hook prerouting priority -160
		ct mark set ct mark or 0x80000
	}
	chain late {
		type filter hook input priority 0
		iifname "lo" tcp sport 8080 meta mark & 0x80000 == 0 counter name lost
	}
}`)
			for family, a := range labAddresses {
				p := scratch.Probe{ID: family.String(), Namespace: "pod", Proto: "tcp", UID: 1000, GID: 1000, Mark: 0x539, Src: a.peer, Spoof: true, Dst: a.pod, DPort: 8080}
				pod.lands(p, "pod:8080")
			}
			flows, err := pod.Conntrack()
			if err != nil {
				t.Fatal(err)
			}
			seen := 0
			for _, f := range flows {
				if a := labAddresses[rules.AddressFamily(f.Src.Addr())]; f.Src.Addr() == a.peer && f.Dst == netip.AddrPortFrom(a.pod, 8080) {
					if seen++; f.Track() != tt.want {
						t.Errorf("the connection from %s has %s, want %s", f.Src, f.Track(), tt.want)
					}
				}
			}
			if seen != len(labAddresses) {
				t.Errorf("%d connections were seen, want %d", seen, len(labAddresses))
			}
			var out strings.Builder
			list := exec.Command("nft", "list", "counter", "inet", "others", "lost")
			list.Stdout = &out
			if err := pod.Do(list.Run); err != nil || !strings.Contains(out.String(), "packets 0 ") {
				t.Errorf("answers lost a bit of their mark: %v %s", err, &out)
			}
		})
	}
}
