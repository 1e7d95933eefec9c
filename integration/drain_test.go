// SPDX-License-Identifier: Apache-2.0

//go:build linux

package integration

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/weir-mesh/weir/proxy"
)

// drainWays are ways to capture, with the proxy that each wants.
var drainWays = []struct {
	name    string
	capture int    // of captureWays
	says    string // how a remove counts what comes in and goes out, of both families
	in, out func(*realPod)
}{
	{"redirect", 0, "4 redirected connections",
		func(p *realPod) {
			p.relay(proxyID, proxyID, 15006, proxy.SocketOptions{}, proxy.Dialer{Source: passes})
		},
		func(p *realPod) { p.relay(proxyID, proxyID, 15001, proxy.SocketOptions{}, proxy.Dialer{}) }},
	{"tproxy", 1, "2 redirected connections and 2 connections by TPROXY",
		func(p *realPod) {
			p.relay(0, proxyID, 15006, proxy.SocketOptions{Transparent: true}, proxy.Dialer{KeepClient: true, Mark: proxyID})
		},
		func(p *realPod) { p.relay(proxyID, proxyID, 15001, proxy.SocketOptions{}, proxy.Dialer{}) }},
	{"ambient", 4, "4 redirected connections",
		func(p *realPod) {
			p.relay(0, 0, 15006, proxy.SocketOptions{Transparent: true}, proxy.Dialer{KeepClient: true, Mark: 0x539})
		},
		func(p *realPod) { p.relay(0, 0, 15001, proxy.SocketOptions{}, proxy.Dialer{Mark: 0x539}) }},
	{"istio-init tproxy", 6, "2 redirected connections and 2 connections by TPROXY",
		func(p *realPod) {
			p.relay(0, proxyID, 15006, proxy.SocketOptions{Transparent: true}, proxy.Dialer{KeepClient: true, Mark: proxyID})
		},
		func(p *realPod) { p.relay(proxyID, proxyID, 15001, proxy.SocketOptions{}, proxy.Dialer{}) }},
}

var passes = []netip.Addr{families[0].pass, families[1].pass}

// drainedPod has connections of both families open through a proxy, in both
// directions, and opens more.
type drainedPod struct {
	*realPod
	open func(when string) []*opened
}

func newDrainedPod(t *testing.T, way int) *drainedPod {
	t.Helper()
	w := drainWays[way]
	p := newRealPod(t)
	p.capture(w.capture).want(t, 0)
	w.in(p)
	w.out(p)
	var more []func(when string) *opened
	for _, f := range families {
		any := map[string]string{"IPv4": "0.0.0.0", "IPv6": "[::]"}[f.name]
		app, far := listenAs(p, p.pod, appID, appID, any+":0"), listenAs(p, p.far, 0, 0, any+":0")
		more = append(more,
			func(when string) *opened {
				return p.open(f.name+" inbound "+when, p.far, 0, app, netip.AddrPortFrom(f.pod.Addr(), plain(app.Addr()).Port()))
			},
			func(when string) *opened {
				return p.open(f.name+" outbound "+when, p.pod, appID, far, f.somewhere(3, plain(far.Addr()).Port()))
			})
	}
	return &drainedPod{p, func(when string) (out []*opened) {
		for _, one := range more {
			out = append(out, one(when))
		}
		return out
	}}
}

// isCaptured reports whether the two ends see different connections.
func (o *opened) isCaptured() bool {
	return plain(o.client.LocalAddr()) != plain(o.server.RemoteAddr())
}

// longDrain is a drain that ends before its time is over.
const longDrain = 5 * time.Minute

// drain starts a remove that drains, and returns once nothing new is captured.
func (p *drainedPod) drain(limit time.Duration) (*exec.Cmd, func() outcome) {
	p.Helper()
	args := []string{"remove", "--drain", limit.String()}
	cmd, out, errs := p.command("", args...)
	p.launch(cmd)
	p.Cleanup(func() { _ = cmd.Process.Kill() }) // it may have ended
	for end := time.Now().Add(eventPatience); ; time.Sleep(5 * time.Millisecond) {
		if chains := p.nft("list chains"); strings.Contains(chains, "chain draining") && !strings.Contains(chains, "weir-next") {
			break // it is in force, and the table that helped is gone
		}
		if time.Now().After(end) {
			p.Fatalf("it does not drain: %s%s", out, errs)
		}
	}
	return cmd, func() outcome {
		_ = cmd.Wait() // the outcome tells
		return ended(cmd, args, out.String(), errs.String())
	}
}

// TestDrain ends capture at once, lets what was captured go on, and removes when that
// has ended or the time is over.
func TestDrain(t *testing.T) {
	for number, w := range drainWays {
		t.Run(w.name, func(t *testing.T) {
			p := newDrainedPod(t, number)
			before := p.open("before")
			wantCaptured(t, before, true)
			_, end := p.drain(longDrain)
			after := p.open("while it drains")
			wantCaptured(t, after, false)
			lives(t, before, "while it drains")
			if said := p.run("verify").want(t, 3).out; !strings.Contains(said, "draining") {
				t.Errorf("verify says %s", said)
			}
			if said := p.ok("show"); !strings.Contains(said, "draining") {
				t.Errorf("show says %s", said)
			}
			for _, o := range before {
				o.client.Close()
				o.server.Close()
			}
			if o := end().want(t, 0); !strings.Contains(o.out, "removed") || strings.Contains(o.errs, "reset") {
				t.Errorf("the drain says %s", o)
			}
			if tables := p.tables(); len(tables) > 0 {
				t.Errorf("there are tables %v", tables)
			}
			if rules := p.ip("rule") + p.ip("-6 rule"); strings.Contains(rules, "fwmark") {
				t.Errorf("policy rules are left:\n%s", rules)
			}
			lives(t, after, "after the remove")
		})
	}
}

// TestRemoveSaysWhatItResets counts before a remove, and after a drain whose time is
// over.
func TestRemoveSaysWhatItResets(t *testing.T) {
	for number, w := range drainWays {
		t.Run(w.name, func(t *testing.T) {
			p := newDrainedPod(t, number)
			reset := p.open("before")
			p.run("remove").want(t, 0).says(t, "note: "+w.says+" will be reset (weir remove --drain 30s lets them end)")
			for _, o := range reset {
				// By TPROXY the client's words still arrive, and the answers are lost.
				if saysWithin(lostTimeout, o.client, o.server, "not any more") == nil && saysWithin(lostTimeout, o.server, o.client, "nor back") == nil {
					t.Errorf("%s outlived the remove, and was counted", o.name)
				}
			}
			p.run("remove", "--drain", "1s").want(t, 0) // nothing is there, and nothing to wait for

			p = newDrainedPod(t, number)
			held := p.open("again")
			wantCaptured(t, held, true)
			o := p.run("remove", "--drain", "1s", "--json").want(t, 0).says(t, "the time was over: 4 connections were reset", "waiting up to 1s for "+w.says+" to end")
			var said struct{ Reset int }
			if err := json.Unmarshal([]byte(o.out), &said); err != nil || said.Reset != 4 {
				t.Errorf("%v: %s", err, o)
			}
		})
	}
}

// TestDrainCutShort ends a drain before its time. What it leaves captures nothing, is
// named, and goes with the next remove or apply.
func TestDrainCutShort(t *testing.T) {
	for _, row := range []struct {
		why    string
		signal syscall.Signal
		next   []string
	}{
		{"a second remove finishes what a signal ended", syscall.SIGTERM, []string{"remove"}},
		{"a second remove finishes what was killed", syscall.SIGKILL, []string{"remove"}},
		{"a second drain goes on where one was killed", syscall.SIGKILL, []string{"remove", "--drain", "1s"}},
		{"an apply captures again", syscall.SIGKILL, nil},
	} {
		t.Run(row.why, func(t *testing.T) {
			p := newDrainedPod(t, 1)
			held := p.open("before")
			cmd, end := p.drain(longDrain)
			lives(t, held, "while it drains")
			if err := cmd.Process.Signal(row.signal); err != nil {
				t.Fatal(err)
			}
			o := end()
			if row.signal == syscall.SIGTERM {
				o.want(t, 1).says(t, "is draining: nothing new is captured, and 4 captured connections go on; weir remove ends them", "terminated")
			}
			lives(t, held, "after the drain was cut short")
			if said := p.run("verify").want(t, 3).out; !strings.Contains(said, "draining") {
				t.Errorf("verify says %s", said)
			}
			if row.next == nil {
				p.capture(1).want(t, 0)
				p.run("verify").want(t, 0)
				wantCaptured(t, p.open("after the apply"), true)
				lives(t, held, "after the apply")
				return
			}
			p.run(row.next...).want(t, 0)
			if tables := p.tables(); len(tables) > 0 {
				t.Errorf("there are tables %v", tables)
			}
		})
	}
}

// TestDrainOvertaken has another process settle the table while a drain waits: the drain
// ends, and what was applied meanwhile stays.
func TestDrainOvertaken(t *testing.T) {
	for _, row := range []struct {
		why  string
		way  int // of drainWays
		next func(p *drainedPod)
		code int
		says string
	}{
		{"an apply captures again", 0, func(p *drainedPod) { p.capture(0).want(t, 0) }, 1, "captures again"},
		{"an apply captures again by TPROXY, whose routing the drain kept", 1, func(p *drainedPod) { p.capture(1).want(t, 0) }, 1, "captures again"},
		{"an apply of other rules captures again", 0, func(p *drainedPod) { p.capture(2).want(t, 0) }, 1, "captures again"},
		{"a remove takes the table away", 0, func(p *drainedPod) { p.run("remove").want(t, 0) }, 0, "absent"},
		{"another drain takes the table away", 1, func(p *drainedPod) { p.run("remove", "--drain", "1ms").want(t, 0) }, 0, "absent"},
	} {
		t.Run(row.why, func(t *testing.T) {
			p := newDrainedPod(t, row.way)
			held := p.open("before")
			wantCaptured(t, held, true)
			start := time.Now()
			_, end := p.drain(longDrain)
			row.next(p)
			o := end().want(t, row.code)
			if text := o.out + o.errs; !strings.Contains(text, row.says) || strings.Contains(text, "reset") {
				t.Errorf("the drain says %s", o)
			}
			if time.Since(start) >= longDrain {
				t.Error("the drain waited for its whole time")
			}
			if row.code == 0 {
				return
			}
			if tables := p.tables(); len(tables) != 1 {
				t.Errorf("there are tables %v", tables)
			}
			wantCaptured(t, p.open("after the drain"), true)
			lives(t, held, "after the drain")
		})
	}
}

// TestDrainWants refuses times that are none.
func TestDrainWants(t *testing.T) {
	c := newCLI(t)
	for _, row := range []struct{ args, says string }{
		{"--drain 0s", "--drain: 0s is not a time to wait (want such as 30s)"},
		{"--drain -1s", "--drain: -1s is not a time to wait (want such as 30s)"},
		{"--drain 30", "--drain"},
		{"--drain 30s --timeout 30s", "--drain: 30s is not shorter than --timeout, 30s"},
	} {
		c.run(append([]string{"remove"}, strings.Fields(row.args)...)...).want(t, 2).says(t, row.says)
	}
}

func lives(t *testing.T, all []*opened, when string) {
	t.Helper()
	for _, o := range all {
		o.lives(t, when)
	}
}

func wantCaptured(t *testing.T, all []*opened, want bool) {
	t.Helper()
	for _, o := range all {
		if o.isCaptured() != want {
			t.Errorf("%s is captured: %t, want %t", o.name, !want, want)
		}
		o.lives(t, fmt.Sprint("captured: ", want))
	}
}
