// SPDX-License-Identifier: Apache-2.0

//go:build linux

package integration

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weir-mesh/weir/internal/scratch"
	"golang.org/x/sys/unix"
)

// Who validates, and what it then does.
const (
	compares    = "the rules are as wanted"
	capturedIn  = "inbound %s connections are captured"
	capturedOut = "outbound %s connections are captured"
)

// unprivileged is a container without capabilities.
func unprivileged(uid, gid int) container { return container{UID: uid, GID: gid} }

var (
	asProxy = unprivileged(proxyID, proxyID) // as istio's validation, where a CNI plugin writes the rules
	asApp   = unprivileged(appID, appID)
	asInit  = container{Caps: netAdmin}
)

const validationTimeout = 2 * time.Second

// validate runs istio-init's validation as that user.
func (p *realPod) validate(c container, args ...string) ran {
	p.Helper()
	return p.validateFor(validationTimeout, c, args...)
}

func (p *realPod) validateFor(timeout time.Duration, c container, args ...string) ran {
	p.Helper()
	c.Args = append([]string{"/weir", "istio-iptables"}, args...)
	c.Args = append(c.Args, "--run-validation", "--skip-rule-apply", "--probe-timeout", timeout.String())
	return p.contain(c)
}

// inTime fails the test where validation took longer than it may.
func (r ran) inTime(t testing.TB) ran {
	t.Helper()
	if slack := 10 * time.Second; r.took > validationTimeout+slack { // to start, on a busy machine
		t.Errorf("it took %s: %s", r.took, r)
	}
	return r
}

// exits is want for goroutines beside the test's own.
func (r ran) exits(t testing.TB, code int) ran {
	t.Helper()
	if r.code != code {
		t.Errorf("want exit %d: %s", code, r)
	}
	return r
}

// each is the texts for each family.
func each(format string) []string {
	var out []string
	for _, f := range families {
		out = append(out, fmt.Sprintf(format, strings.ToLower(f.name)))
	}
	return out
}

func TestValidation(t *testing.T) {
	iptables := tool(t, "iptables-nft", "iptables")
	p := newRealPod(t)
	if err := p.far.AddRoute(scratch.Route{Dst: netip.MustParsePrefix("192.0.2.0/24"), Local: true, Table: unix.RT_TABLE_LOCAL}); err != nil {
		t.Fatal(err)
	}
	writers := []struct {
		why   string
		write func()
		undo  func()
		mode  string
		root  []string // what root's validation says
	}{
		{"weir's own, REDIRECT", func() { p.istioInit(injected("REDIRECT")...) }, func() { p.istioInit("--cleanup-only") }, "REDIRECT", []string{compares}},
		{"weir's own, TPROXY", func() { p.istioInit(injected("TPROXY")...) }, func() { p.istioInit("--cleanup-only") }, "TPROXY", []string{compares}},
		{"the reference's, by iptables", func() {
			p.must(iptablesRules("127.0.0.1/32", "127.0.0.6"), iptables+"-restore")
			p.must(iptablesRules("::1/128", "::6"), strings.Replace(iptables, "iptables", "ip6tables", 1)+"-restore")
			p.ip("addr add ::6/128 dev lo nodad")
		}, func() { p.nft("flush ruleset"); p.ip("addr del ::6/128 dev lo") }, "REDIRECT", each(capturedOut)},
		{"istio's, by nft", func() { p.nft(istioTables); p.ip("addr add ::6/128 dev lo nodad") },
			func() { p.nft("flush ruleset"); p.ip("addr del ::6/128 dev lo") }, "REDIRECT", each(capturedOut)},
	}
	for _, w := range writers {
		t.Run(w.why, func(t *testing.T) {
			p := p.elsewhereCalled(t)
			w.write()
			defer w.undo()
			args := injected(w.mode)
			before := p.holds()
			p.validate(asProxy, args...).inTime(t).want(t, 0).says(t, each(capturedIn)...)
			p.validate(asApp, args...).inTime(t).want(t, 0).says(t, each(capturedOut)...)
			p.validate(asInit, args...).inTime(t).want(t, 0).says(t, w.root...)
			if d := changed(before, p.holds()); d != "" {
				t.Errorf("validation changed:\n%s", d)
			}
		})
	}
	t.Run("no rules", func(t *testing.T) {
		p := p.elsewhereCalled(t)
		var group sync.WaitGroup
		for _, c := range []struct {
			container
			what string
		}{{asProxy, "inbound"}, {asApp, "outbound"}} {
			group.Go(func() {
				r := p.validate(c.container, injected("REDIRECT")...).inTime(t)
				r.exits(t, 126).says(t, "validation: "+c.what+" ipv4: a connection to ", c.what+" ipv6: ", "it is not captured")
				if !strings.Contains(r.message, "it is not captured") {
					t.Errorf("/dev/termination-log has %q", r.message)
				}
			})
		}
		group.Wait()
	})
	t.Run("IPv4's alone", func(t *testing.T) {
		p := p.elsewhereCalled(t)
		p.must(iptablesRules("127.0.0.1/32", "127.0.0.6"), iptables+"-restore")
		defer p.nft("flush ruleset")
		var group sync.WaitGroup
		for _, c := range []container{asProxy, asApp} {
			group.Go(func() {
				r := p.validate(c, injected("REDIRECT")...).inTime(t)
				r.exits(t, 126).says(t, "validated: ", " ipv4 connections are captured", "ipv6: ")
				if strings.Contains(r.message, "ipv4") || !strings.Contains(r.message, "ipv6") {
					t.Errorf("the reason is %q, and should name IPv6 alone", r.message)
				}
			})
		}
		group.Wait()
	})
}

// elsewhereCalled is the same pod for a subtest.
func (p *realPod) elsewhereCalled(t testing.TB) *realPod {
	other := *p
	other.cli = p.with(func(c *cli) {
		n := *p.namespace
		n.TB = t
		c.namespace = &n
	})
	return &other
}

// TestValidationBesideALiveProxy validates while a proxy has the capture ports:
// they keep them, and every connection to them.
func TestValidationBesideALiveProxy(t *testing.T) {
	p := newRealPod(t)
	p.istioInit(injected("REDIRECT")...)
	for _, tt := range []struct {
		why       string
		container container
		port      uint16
		says      []string
	}{
		{"as the proxy", asProxy, 15006, each(capturedIn)},
		{"as an application", asApp, 15001, each(capturedOut)},
	} {
		t.Run(tt.why, func(t *testing.T) {
			p := p.elsewhereCalled(t)
			t.Run("that shares its port", func(t *testing.T) {
				live := p.hold(t, tt.container, tt.port, nil)
				p.validate(tt.container, injected("REDIRECT")...).inTime(t).want(t, 0).says(t, append(tt.says, "another process listens where the connection must arrive")...)
				eventually(t, "the live proxy has accepted both connections", func() bool { return live.Load() == 2 })
				p.validate(asInit, injected("REDIRECT")...).want(t, 0).says(t, compares)
				if got := live.Load(); got != 2 {
					t.Errorf("the live proxy got a connection of a comparison's")
				}
			})
			t.Run("that begins to listen meanwhile", func(t *testing.T) {
				refused, listen := p.untilRefused(len(families)), make(chan struct{})
				live := p.hold(t, tt.container, tt.port, listen)
				done := make(chan ran, 1)
				go func() { done <- p.validateFor(eventPatience, tt.container, injected("REDIRECT")...) }()
				refused()
				close(listen)
				(<-done).want(t, 0).says(t, tt.says...)
				eventually(t, "the live proxy has accepted both connections", func() bool { return live.Load() == 2 })
			})
			t.Run("that never listens", func(t *testing.T) {
				p.hold(t, tt.container, tt.port, make(chan struct{}))
				p.validate(tt.container, injected("REDIRECT")...).inTime(t).want(t, 126).says(t, "was not accepted by the listener on", "connection refused")
			})
		})
	}
	t.Run("where a program listens on the probe's port too", func(t *testing.T) {
		p := p.elsewhereCalled(t)
		p.hold(t, asProxy, 15006, nil)
		p.hold(t, asApp, 15002, nil)
		p.validate(asProxy, injected("REDIRECT")...).want(t, 126).says(t, "proves nothing: a process listens there", "nothing could be validated")
	})
}

// hold binds a port of every address, in both families, as a proxy does that
// shares it among its threads, and listens there once it is told to; nil means at
// once. It counts connections.
func (p *realPod) hold(t testing.TB, c container, port uint16, listen <-chan struct{}) *atomic.Int64 {
	t.Helper()
	var taken atomic.Int64
	atOnce := listen == nil
	if atOnce {
		now := make(chan struct{})
		close(now)
		listen = now
	}
	for _, network := range []string{"tcp4", "tcp6"} {
		fd, err := p.bound(c, network, port)
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan struct{})
		stop := make(chan struct{})
		go func() {
			defer close(ended)
			select {
			case <-stop:
				return
			case <-listen:
			}
			if err := unix.Listen(fd, 16); err != nil {
				t.Errorf("the live proxy cannot listen: %v", err)
				return
			}
			for {
				conn, _, err := unix.Accept(fd)
				if err != nil {
					return // it was shut down
				}
				taken.Add(1)
				_ = unix.Close(conn)
			}
		}()
		t.Cleanup(func() {
			close(stop)
			_ = unix.Shutdown(fd, unix.SHUT_RDWR)
			<-ended
			_ = unix.Close(fd)
		})
	}
	if atOnce {
		eventually(t, fmt.Sprintf("a program listens on %d", port), func() bool { return p.listening([]uint16{port}) })
	}
	return &taken
}

func (p *realPod) bound(c container, network string, port uint16) (fd int, err error) {
	inside := p.pod.DoAs(uint32(c.UID), uint32(c.GID), func() error {
		family, sa := unix.AF_INET, unix.Sockaddr(&unix.SockaddrInet4{Port: int(port)})
		if network == "tcp6" {
			family, sa = unix.AF_INET6, &unix.SockaddrInet6{Port: int(port)}
		}
		if fd, err = unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		options := []struct{ level, option int }{{unix.SOL_SOCKET, unix.SO_REUSEADDR}, {unix.SOL_SOCKET, unix.SO_REUSEPORT}}
		if network == "tcp6" {
			options = append(options, struct{ level, option int }{unix.SOL_IPV6, unix.IPV6_V6ONLY})
		}
		for _, o := range options {
			if err := unix.SetsockoptInt(fd, o.level, o.option, 1); err != nil {
				return err
			}
		}
		return unix.Bind(fd, sa)
	})
	return fd, errors.Join(inside, err)
}

// TestValidationSaysWhatItCannot validates configurations that leave it little
// or nothing to try.
func TestValidationSaysWhatItCannot(t *testing.T) {
	p := newRealPod(t)
	with := func(old, new string) []string {
		args := injected("REDIRECT")
		args[slices.Index(args, old)+1] = new
		return args
	}
	more := func(args ...string) []string { return injected("REDIRECT", args...) }
	env := func(c container, variable string) container { c.Env = []string{variable}; return c }
	gateway := func(verb, family, via string) func() {
		return func() { p.ip(family + " route " + verb + " default via " + via) }
	}
	no4, no6 := gateway("del", "-4", "198.18.0.1"), gateway("del", "-6", "2001:db8:18::1")
	all4, all6 := gateway("add", "-4", "198.18.0.1"), gateway("add", "-6", "2001:db8:18::1")
	taken6 := func() {
		p.nft("table ip6 other {\nchain out {\ntype nat hook output priority -110\ntcp dport 53 redirect to :9999\n}\n}\n")
	}
	free6 := func() { p.nft("delete table ip6 other") }
	for _, tt := range []struct {
		why       string
		args      []string
		container container
		do, undo  []func()
		code      int
		says      []string
	}{
		{"a list of destinations", with("-i", "10.0.0.0/8,fd00::/8"), asApp, nil, nil, 0, each(capturedOut)},
		{"a list of destinations whose first is excluded", append(with("-i", "10.0.0.0/8,fd00::/8"), "-x", "10.0.0.0/9,fd00::/16"), asApp, nil, nil, 0, each(capturedOut)},
		{"a list of destinations of one family", with("-i", "10.0.0.0/8"), asApp, nil, nil, 0,
			[]string{"outbound ipv4 connections are captured", `msg="not validated: outbound ipv6" because="nothing is captured that way"`}},
		{"all destinations excluded", append(with("-i", "10.0.0.0/8,fd00::/8"), "-x", "10.0.0.0/8,fd00::/8"), asApp, nil, nil, 126,
			[]string{"the excluded destinations leave none to try", "nothing could be validated"}},
		{"the probe's port excluded", more("-o", "15002"), asApp, nil, nil, 0, each(capturedOut)},
		{"all ports excluded", more("-o", "1:65535"), asApp, nil, nil, 126, []string{"the excluded ports leave none to try", "nothing could be validated"}},
		{"some ports alone", append(with("-i", ""), "-q", "80,443"), asApp, nil, nil, 0, each(capturedOut)},
		{"nothing outbound", with("-i", ""), asApp, nil, nil, 126, []string{"nothing is captured that way", "nothing could be validated"}},
		{"no route of one family", more(), asApp, []func(){no6}, []func(){all6}, 0,
			[]string{"outbound ipv4 connections are captured", "not validated: outbound ipv6", "2001:db8::1 cannot be reached", "network is unreachable"}},
		{"no route", more(), asApp, []func(){no4, no6}, []func(){all4, all6}, 126, []string{"192.0.2.1 cannot be reached", "nothing could be validated"}},
		{"no route, and the proxy needs none", more(), asProxy, []func(){no4, no6}, []func(){all4, all6}, 0, each(capturedIn)},
		{"an excluded interface", more("-c", "eth+"), asApp, nil, nil, 126, []string{"packets to 192.0.2.1 leave by an excluded interface", "nothing could be validated"}},
		{"an excluded group", more(), env(asApp, "ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE=1000"), nil, nil, 126, []string{"this user's or group's traffic is left alone"}},
		{"another group than the included", more(), env(asApp, "ISTIO_OUTBOUND_OWNER_GROUPS=2000"), nil, nil, 126, []string{"this user's or group's traffic is left alone"}},
		{"the included group", more(), env(asApp, "ISTIO_OUTBOUND_OWNER_GROUPS=1000"), nil, nil, 0, each(capturedOut)},
		{"all of 127.0.0.0/8 counts as loopback", more(), env(asProxy, "ISTIO_OUTBOUND_IPV4_LOOPBACK_CIDR=127.0.0.0/8"), nil, nil, 0, each(capturedIn)},
		{"the proxy's group alone", injected("TPROXY"), unprivileged(0, proxyID), nil, nil, 126, []string{"calls to its own pod are not captured"}},
		{"DNS and the tunnel's port", more("--redirect-dns", "--capture-all-dns", "--iptables-probe-port", "15008"), asProxy, nil, nil, 0, each(capturedIn)},
		{"queries to every server", more("--redirect-dns", "--capture-all-dns"), asApp, nil, nil, 0, append(each(capturedOut), each("DNS %s connections are captured")...)},
		{"queries that another program takes in one family", more("--redirect-dns", "--capture-all-dns"), asApp, []func(){taken6}, []func(){free6}, 126,
			append(each(capturedOut), "DNS ipv4 connections are captured", "validation: DNS ipv6: a connection to [2001:db8::1]:53 did not arrive at [::1]:15053: it is not captured")},
		{"queries that another program takes, to who may read rules", more("--redirect-dns", "--capture-all-dns"), asInit, []func(){taken6}, []func(){free6}, 126,
			[]string{"validation: chain out of table ip6 other (nat output -110) sends DNS queries (IPv6) elsewhere than to the proxy"}},
		{"nothing inbound", with("-b", ""), asProxy, nil, nil, 0, each(capturedIn)},
	} {
		t.Run(tt.why, func(t *testing.T) {
			p := p.elsewhereCalled(t)
			c := initContainer(append([]string{"istio-iptables"}, tt.args...)...)
			c.Env = tt.container.Env
			p.contain(c).want(t, 0)
			for _, f := range tt.do {
				f()
			}
			for _, f := range tt.undo {
				defer f()
			}
			p.validate(tt.container, tt.args...).inTime(t).want(t, tt.code).says(t, tt.says...)
		})
	}
}

// TestValidationWaits starts before the rules are there, as beside a CNI plugin
// that is late.
func TestValidationWaits(t *testing.T) {
	p := newRealPod(t)
	done := make(chan ran, 1)
	refused := p.untilRefused(len(families))
	go func() { done <- p.validateFor(eventPatience, asProxy, injected("REDIRECT")...) }()
	refused()
	p.istioInit(injected("REDIRECT")...)
	(<-done).want(t, 0).says(t, each(capturedIn)...)
}

// iptablesRules are those that the reference's iptables engine writes, of one
// family.
func iptablesRules(loopback, passthrough string) string {
	return strings.NewReplacer("LOOPBACK", loopback, "PASSTHROUGH", passthrough).Replace(`*nat
:ISTIO_INBOUND - [0:0]
:ISTIO_IN_REDIRECT - [0:0]
:ISTIO_OUTPUT - [0:0]
:ISTIO_REDIRECT - [0:0]
-A PREROUTING -p tcp -j ISTIO_INBOUND
-A OUTPUT -j ISTIO_OUTPUT
-A ISTIO_INBOUND -p tcp -m tcp --dport 15008 -j RETURN
-A ISTIO_INBOUND -p tcp -m tcp --dport 15090 -j RETURN
-A ISTIO_INBOUND -p tcp -m tcp --dport 15021 -j RETURN
-A ISTIO_INBOUND -p tcp -m tcp --dport 15020 -j RETURN
-A ISTIO_INBOUND -p tcp -j ISTIO_IN_REDIRECT
-A ISTIO_IN_REDIRECT -p tcp -j REDIRECT --to-ports 15006
-A ISTIO_OUTPUT -s PASSTHROUGH -o lo -j RETURN
-A ISTIO_OUTPUT ! -d LOOPBACK -o lo -p tcp -m tcp ! --dport 15008 -m owner --uid-owner 1337 -j ISTIO_IN_REDIRECT
-A ISTIO_OUTPUT -o lo -m owner ! --uid-owner 1337 -j RETURN
-A ISTIO_OUTPUT -m owner --uid-owner 1337 -j RETURN
-A ISTIO_OUTPUT ! -d LOOPBACK -o lo -p tcp -m tcp ! --dport 15008 -m owner --gid-owner 1337 -j ISTIO_IN_REDIRECT
-A ISTIO_OUTPUT -o lo -m owner ! --gid-owner 1337 -j RETURN
-A ISTIO_OUTPUT -m owner --gid-owner 1337 -j RETURN
-A ISTIO_OUTPUT -d LOOPBACK -j RETURN
-A ISTIO_OUTPUT -j ISTIO_REDIRECT
-A ISTIO_REDIRECT -p tcp -j REDIRECT --to-ports 15001
COMMIT
`)
}

// istioTables are those that the reference's nft engine writes.
const istioTables = `
table inet istio-proxy-nat {
	chain prerouting {
		type nat hook prerouting priority dstnat; policy accept;
		meta l4proto tcp counter jump istio-inbound
	}
	chain output {
		type nat hook output priority -100; policy accept;
		counter jump istio-output
	}
	chain istio-redirect { meta l4proto tcp counter redirect to :15001
	}
	chain istio-in-redirect { meta l4proto tcp counter redirect to :15006
	}
	chain istio-inbound {
		tcp dport 15008 counter return
		tcp dport 15090 counter return
		tcp dport 15021 counter return
		tcp dport 15020 counter return
		meta l4proto tcp counter jump istio-in-redirect
	}
	chain istio-output {
		oifname "lo" ip saddr 127.0.0.6 counter return
		oifname "lo" ip6 saddr ::6 counter return
		oifname "lo" ip daddr != 127.0.0.1 tcp dport != 15008 skuid 1337 counter jump istio-in-redirect
		oifname "lo" ip6 daddr != ::1 tcp dport != 15008 skuid 1337 counter jump istio-in-redirect
		oifname "lo" skuid != 1337 counter return
		skuid 1337 counter return
		oifname "lo" ip daddr != 127.0.0.1 tcp dport != 15008 skgid 1337 counter jump istio-in-redirect
		oifname "lo" skgid != 1337 counter return
		skgid 1337 counter return
		ip daddr 127.0.0.1 counter return
		ip6 daddr ::1 counter return
		counter jump istio-redirect
	}
}
`
