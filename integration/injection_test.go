// SPDX-License-Identifier: Apache-2.0

//go:build linux

package integration

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/weir-mesh/weir/internal/scratch"
)

// TestInjectedArguments runs what istio's injection template makes of a pod's
// annotations, each with the container's own user and capabilities and a
// read-only root, and proves by connections that it captures.
func TestInjectedArguments(t *testing.T) {
	always := func(mode string, more ...string) []string {
		args := injected(mode, more...)
		return slices.DeleteFunc(args, func(a string) bool { return a == "--dual-stack" })
	}
	p := newRealPod(t)
	for _, tt := range []struct {
		why      string
		args     []string
		env      []string
		families int // that are captured
		has      []string
	}{
		{"REDIRECT", always("REDIRECT"), nil, 1, []string{"redirect to :15001", "redirect to :15006", "15020-15021, 15090"}},
		{"TPROXY", always("TPROXY"), nil, 1, []string{"tproxy to :15006", "redirect to :15001"}},
		{"dual stack by the environment", always("REDIRECT"), []string{"ISTIO_DUAL_STACK=true"}, 2, []string{"ip6 daddr ::1"}},
		{"DNS and invalid packets by the environment", always("REDIRECT"), []string{"ISTIO_META_DNS_CAPTURE=true", "INVALID_DROP=true"}, 1,
			[]string{"redirect to :15053", "ct state invalid", "drop"}},
		{"annotations for ports and interfaces", always("REDIRECT", "-q", "443", "-o", "15020,3306", "-c", "net1", "-k", "tap0"), nil, 1,
			[]string{"outbound_exclude_ports", "exclude_interfaces", "reroute_ignoring"}},
		{"native nftables, forced", always("REDIRECT", "--native-nftables", "--force-apply"), nil, 1, []string{"redirect to :15001"}},
		{"reconciled", always("TPROXY", "--reconcile"), nil, 1, []string{"tproxy to :15006"}},
		{"JSON logs", always("REDIRECT", "--log_as_json"), nil, 1, []string{"redirect to :15001"}},
	} {
		t.Run(tt.why, func(t *testing.T) {
			p := p.elsewhereCalled(t)
			defer p.contain(initContainer("istio-iptables", "--cleanup-only"))
			c := initContainer(append([]string{"istio-iptables"}, tt.args...)...)
			c.Env, c.Resolvers = tt.env, "nameserver 203.0.113.53\n"
			r := p.contain(c)
			r.want(t, 0).says(t, "created")
			if r.message != "" {
				t.Errorf("a run that succeeds leaves %q in /dev/termination-log", r.message)
			}
			if slices.Contains(tt.args, "--log_as_json") {
				for line := range strings.Lines(r.errs) {
					if !json.Valid([]byte(line)) {
						t.Errorf("%q is not JSON", line)
					}
				}
			}
			table := p.nft("list table inet " + tableName)
			for _, text := range tt.has {
				if !strings.Contains(table, text) {
					t.Errorf("the table has no %q:\n%s", text, table)
				}
			}
			for _, v := range []struct {
				container
				says string
			}{{asProxy, capturedIn}, {asApp, capturedOut}} {
				v.Env, v.Resolvers = tt.env, c.Resolvers
				p.validate(v.container, tt.args...).want(t, 0).says(t, each(v.says)[:tt.families]...)
			}
			compared := asInit
			compared.Env, compared.Resolvers = tt.env, c.Resolvers
			p.validate(compared, tt.args...).want(t, 0).says(t, compares)
		})
	}
	t.Run("without NET_ADMIN", func(t *testing.T) {
		p := p.elsewhereCalled(t)
		c := initContainer(append([]string{"istio-iptables"}, always("REDIRECT")...)...)
		c.Caps = nil
		r := p.contain(c)
		r.want(t, 1).says(t, "CAP_NET_ADMIN")
		if !strings.Contains(r.message, "CAP_NET_ADMIN") {
			t.Errorf("/dev/termination-log has %q", r.message)
		}
	})
}

// TestContainersAreConfined holds what the tests beside it rely on: the kernel
// gives a container no right but those that it is meant to have.
func TestContainersAreConfined(t *testing.T) {
	p := newRealPod(t)
	cat := filepath.Join("/bin", "cat")
	if _, err := os.Stat(cat); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		why  string
		c    container
		want []string
	}{
		{"the init container", container{Caps: netAdmin}, []string{"Uid:\t0", "CapEff:\t0000000000003000", "CapBnd:\t0000000000003000", "NoNewPrivs:\t1"}},
		{"the validation container", asProxy, []string{"Uid:\t1337", "Gid:\t1337", "CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1"}},
		{"a proxy by TPROXY", tproxyProxy, []string{"Uid:\t0", "Gid:\t1337", "CapEff:\t0000000000001000", "CapBnd:\t0000000000001000"}},
	} {
		tt.c.Args = []string{cat, "/proc/self/status"}
		cmd := p.containerCommand(tt.c)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v: %s", tt.why, err, out)
		}
		for _, text := range tt.want {
			if !strings.Contains(string(out), text) {
				t.Errorf("%s has no %q:\n%s", tt.why, text, out)
			}
		}
	}
}

// TestAGatewayIsLeftAlone removes what is there, as a pod that is its own proxy
// has it, and finds nothing captured.
func TestAGatewayIsLeftAlone(t *testing.T) {
	p := newRealPod(t)
	serveWeb(t, p.far, 0, worldPorts...)
	serveWeb(t, p.pod, appID, appPort)
	before := p.holds()
	p.ok("apply", "--mode", "none")
	for _, mode := range []string{"REDIRECT", "TPROXY"} {
		p.istioInit(injected(mode)...)
		p.run("verify", "--mode", "none").want(t, 3)
		p.run("apply", "--mode", "none").want(t, 0).prints(t, "removed")
		p.run("verify", "--mode", "none").want(t, 0)
		p.run("apply", "--mode", "none").want(t, 0).prints(t, "absent")
		if d := changed(before, p.holds()); d != "" {
			t.Errorf("%s leaves behind:\n%s", mode, d)
		}
		for _, f := range families {
			for _, way := range []load{
				{in: p.far, to: func(int) netip.AddrPort { return netip.AddrPortFrom(f.pod.Addr(), appPort) }},
				{in: p.pod, uid: appID, gid: appID, to: func(i int) netip.AddrPort { return f.somewhere(i, 80) }},
			} {
				way.requests = 20
				way.right = func(i int, s seen) bool { return s.By == "" && s.Asked == way.to(i) }
				way.run(t)
			}
		}
	}
}

// TestIPv6IsOffOnLo has IPv6 on eth0 and not on lo: there is no ::6, nor a route
// to lo, which is told; what comes in is captured in both families, what goes out
// over IPv6 reaches no listener, which is told too.
func TestIPv6IsOffOnLo(t *testing.T) {
	for _, mode := range []string{"REDIRECT", "TPROXY"} {
		t.Run(mode, func(t *testing.T) {
			p := newRealPod(t)
			if err := p.pod.Sysctl("net/ipv6/conf/lo/disable_ipv6", "1"); err != nil {
				t.Fatal(err)
			}
			p.istioInit(injected(mode)...).says(t, "created", "::6 is not added: IPv6 is disabled on lo",
				"IPv6 connections that are captured cannot reach the proxy: IPv6 is disabled on lo")
			p.istioInit(injected(mode)...).says(t, "unchanged")
			if strings.Contains(p.ip("-6 addr"), "::6/128") {
				t.Error("::6 was added")
			}
			p.validate(asInit, injected(mode)...).want(t, 0).says(t, compares)
			p.validate(asProxy, injected(mode)...).want(t, 0).says(t, fmt.Sprintf(capturedIn, "ipv4"),
				`msg="not validated: inbound ipv6" because="IPv6 is disabled on lo"`)
			listeners := scratch.Listeners{Name: "proxy", Identity: scratch.Identity{GID: proxyID}, TCP: []uint16{15001, 15006}, Transparent: []uint16{15006}}
			server, err := listeners.Serve(t.Context(), p.pod)
			if err != nil {
				t.Fatal(err)
			}
			defer server.Close()
			for _, f := range families {
				probe := scratch.Probe{ID: "in " + f.name, Proto: "tcp", Dst: f.pod.Addr(), DPort: appPort}
				fate, err := probe.Send(t.Context(), p.far, eventPatience)
				if err != nil {
					t.Fatal(err)
				}
				want := scratch.Fate{Land: "proxy:15006", Orig: netip.AddrPortFrom(f.pod.Addr(), appPort), Src: scratch.SourceKept}
				if fate != want {
					t.Errorf("inbound %s: %s, want %s", f.name, fate, want)
				}
				probe = scratch.Probe{ID: "out " + f.name, Proto: "tcp", UID: appID, GID: appID, Dst: f.somewhere(1, 80).Addr(), DPort: 80}
				patience := eventPatience
				want = scratch.Fate{Land: "proxy:15001", Orig: f.somewhere(1, 80), Src: scratch.SourceKept}
				if f.pass.Is6() {
					patience = lostTimeout
					want = scratch.Fate{Land: "timeout"} // REDIRECT leads to ::1, which is not there
				}
				fate, err = probe.Send(t.Context(), p.pod, patience)
				if err != nil {
					t.Fatal(err)
				}
				if fate != want {
					t.Errorf("outbound %s: %s, want %s", f.name, fate, want)
				}
			}
		})
	}
}
