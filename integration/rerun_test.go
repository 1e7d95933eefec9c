// SPDX-License-Identifier: Apache-2.0

//go:build linux

package integration

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weir-mesh/weir/internal/scratch"
	"github.com/weir-mesh/weir/proxy"
)

// release builds the program as that release.
func release(t testing.TB, version string) string {
	t.Helper()
	program, err := build("./cmd/weir", version)
	if err != nil {
		t.Fatal(err)
	}
	return installAs(t, filepath.Join(sharedDir(t), "weir"), program)
}

// TestRunAgainInALivePod runs istio-init in a pod whose proxy is at work: what is
// the same is left alone, what differs is replaced, open connections go on, and no
// new one escapes the proxy.
func TestRunAgainInALivePod(t *testing.T) {
	for _, mode := range []string{"REDIRECT", "TPROXY"} {
		t.Run(mode, func(t *testing.T) {
			p := newRealPod(t)
			p.istioInit(injected(mode)...).says(t, "outcome=created")
			serveWeb(t, p.far, 0, worldPorts...)
			serveWeb(t, p.pod, appID, appPort)
			serveEcho(t, p.far, 0)
			serveEcho(t, p.pod, appID)
			out := p.relay(proxyID, proxyID, 15001, proxy.SocketOptions{}, proxy.Dialer{})
			in := p.inboundRelay(mode)
			open := p.openEchoes()

			before, changes := p.holds(), p.watch()
			p.istioInit(injected(mode)...).says(t, "outcome=unchanged")
			if seen := changes(); len(seen) > 0 {
				t.Errorf("a run with the same arguments sent %v", seen)
			}
			if d := changed(before, p.holds()); d != "" {
				t.Errorf("a run with the same arguments changed:\n%s", d)
			}

			var stop atomic.Bool
			var group sync.WaitGroup
			group.Go(func() { p.replaceUntil(&stop, mode) })
			group.Go(func() { exchangeUntil(t, &stop, open) })
			for _, f := range families {
				to := func(i int) netip.AddrPort { return f.somewhere(i, worldPorts[i%len(worldPorts)]) }
				load{in: p.pod, uid: appID, gid: appID, requests: howOften(1500, 20000), to: to,
					right: func(i int, s seen) bool {
						c, ours := out.of(s)
						return ours && c.OriginalDst == to(i)
					}}.run(t)
				application := netip.AddrPortFrom(f.pod.Addr(), appPort)
				load{in: p.far, requests: howOften(1500, 20000), to: func(int) netip.AddrPort { return application },
					right: func(i int, s seen) bool {
						c, ours := in.of(s)
						return ours && c.OriginalDst == application
					}}.run(t)
			}
			stop.Store(true)
			group.Wait()
		})
	}
}

// inboundRelay is the inbound listener of that mode; by TPROXY it keeps the
// client's address.
func (p *realPod) inboundRelay(mode string) *relay {
	p.Helper()
	if mode == "TPROXY" {
		return p.relay(0, proxyID, 15006, proxy.SocketOptions{Transparent: true}, proxy.Dialer{KeepClient: true, Mark: proxyID})
	}
	return p.relay(proxyID, proxyID, 15006, proxy.SocketOptions{}, proxy.Dialer{Source: []netip.Addr{families[0].pass, families[1].pass}})
}

// replaceUntil replaces the rules over and over.
func (p *realPod) replaceUntil(stop *atomic.Bool, mode string) {
	n := 0
	for ; !stop.Load(); n++ {
		more := [][]string{{"-o", "22", "--redirect-dns", "--capture-all-dns"}, {"-c", "nic9"}}[n%2]
		r := p.contain(initContainer(append([]string{"istio-iptables"}, injected(mode, more...)...)...))
		if r.code != 0 || !strings.Contains(r.errs, "outcome=replaced") {
			p.Errorf("want it replaced: %s", r)
			break
		}
	}
	p.Logf("replaced %d times", n)
}

// exchangeUntil keeps open connections at work, and checks each once more at the
// end.
func exchangeUntil(t testing.TB, stop *atomic.Bool, open []net.Conn) {
	for last := false; ; last = stop.Load() {
		for _, conn := range open {
			if err := exchange(conn, "still here\n"); err != nil {
				t.Errorf("a connection to %s that was open is not: %v", conn.RemoteAddr(), err)
				return
			}
		}
		if last {
			return
		}
	}
}

const echoPort = 7007

// serveEcho sends back what it is sent.
func serveEcho(t testing.TB, ns *scratch.Namespace, id uint32) {
	t.Helper()
	go echoAll(listenAs(t, ns, id, id, fmt.Sprintf(":%d", echoPort)))
}

// openEchoes opens connections through the proxy, some each way in each family.
func (p *realPod) openEchoes() []net.Conn {
	p.Helper()
	var open []net.Conn
	for _, f := range families {
		for i := range 10 {
			from, id, to := p.pod, uint32(appID), f.somewhere(i, echoPort)
			if i%2 == 1 {
				from, id, to = p.far, 0, netip.AddrPortFrom(f.pod.Addr(), echoPort)
			}
			conn, err := dialAs(from, id, id, netip.Addr{}, to)
			if err == nil {
				p.Cleanup(func() { conn.Close() })
				err = exchange(conn, "hello\n")
			}
			if err != nil {
				p.Fatal(err)
			}
			open = append(open, conn)
		}
	}
	return open
}

func exchange(conn net.Conn, text string) error {
	if err := conn.SetDeadline(time.Now().Add(eventPatience)); err != nil {
		return err
	}
	if _, err := io.WriteString(conn, text); err != nil {
		return err
	}
	got := make([]byte, len(text))
	if _, err := io.ReadFull(conn, got); err != nil {
		return err
	}
	if string(got) != text {
		return fmt.Errorf("sent back %q", got)
	}
	return nil
}

// TestAnOlderProgramSaysSo replaces what a newer one wrote.
func TestAnOlderProgramSaysSo(t *testing.T) {
	const says = "what was here was written by weir v9.9.9, which is newer than this, v1.2.3"
	c := newCLI(t)
	older, newer := c.with(func(c *cli) { c.program = release(t, "v1.2.3") }), c.with(func(c *cli) { c.program = release(t, "v9.9.9") })
	quiet := func(o outcome) {
		t.Helper()
		if strings.Contains(o.errs, "is newer than this") {
			t.Errorf("it speaks of versions: %s", o)
		}
	}
	config := []string{"apply", "--mode", "sidecar", "--proxy-uids", "1337", "--ipv6", "enabled"}
	other := append(config, "--outbound-exclude-cidrs", "10.0.0.0/8")
	quiet(newer.run(config...).want(t, 0).prints(t, "created"))
	quiet(older.run(config...).want(t, 0).prints(t, "unchanged"))
	older.run(other...).want(t, 0).prints(t, "replaced").says(t, "note: "+says)
	quiet(older.run(config...).want(t, 0).prints(t, "replaced"))
	quiet(newer.run(other...).want(t, 0).prints(t, "replaced"))
	older.run("istio-init", "-i", "*", "-b", "*").want(t, 0).says(t, says)
	quiet(newer.run(config...).want(t, 0))
	older.run("apply", "--mode", "none").want(t, 0).prints(t, "removed").says(t, "note: "+says)
	quiet(older.run("apply", "--mode", "none").want(t, 0).prints(t, "absent"))
}
