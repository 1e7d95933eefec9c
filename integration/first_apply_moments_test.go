// SPDX-License-Identifier: Apache-2.0

//go:build linux

package integration

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weir-mesh/weir/internal/continuity"
	"github.com/weir-mesh/weir/internal/scratch"
)

// TestFirstApplyAmidHandshake applies while a handshake is half done. Who opened the
// connection gets one, by the proxy or past it, and once conntrack forgets a captured
// one nothing of it is on the wire.
func TestFirstApplyAmidHandshake(t *testing.T) {
	for _, row := range []struct {
		why, lost string
		inbound   bool
		state     string // of the pod's socket, as ss names it
	}{
		{"the pod's SYN is lost", "ip daddr 203.0.113.0/24 tcp flags & (syn | ack) == syn drop; ip6 daddr 2001:db8:99::/120 tcp flags & (syn | ack) == syn drop", false, "syn-sent"},
		{"the last packet of a client's handshake is lost", "tcp flags & (syn | ack | psh) == ack drop", true, "syn-recv"},
	} {
		for _, f := range families {
			t.Run(row.why+", "+f.name, func(t *testing.T) {
				p := newRealPod(t)
				serveEcho(t, p.far, 0)
				serveEcho(t, p.pod, appID)
				any := map[string]string{"IPv4": "0.0.0.0", "IPv6": "[::]"}[f.name]
				for _, port := range []string{":15001", ":15006"} {
					go echoAll(listenAs(t, p.pod, proxyID, proxyID, any+port))
				}
				other := listenAs(t, p.far, 0, 0, any+":0")
				leaves := p.open("a connection from before", p.pod, appID, other, f.somewhere(9, plain(other.Addr()).Port()))
				at := &namespace{TB: t, file: openNamespace(t, p.far.Path())}
				hook := "output"
				if strings.Contains(row.lost, "daddr") {
					hook = "prerouting"
				}
				at.nft("table inet lossy { chain c { type filter hook " + hook + " priority 0; " + row.lost + "; }; }")

				type result struct {
					conn *net.TCPConn
					err  error
				}
				dialled := make(chan result, 1)
				go func() {
					from, id, to := p.pod, uint32(appID), f.somewhere(2, echoPort)
					if row.inbound {
						from, id, to = p.far, 0, netip.AddrPortFrom(f.pod.Addr(), echoPort)
					}
					var r result
					inside := from.DoAs(id, id, func() error {
						d := net.Dialer{Timeout: eventPatience, FallbackDelay: -1}
						c, err := d.Dial("tcp", to.String())
						if err == nil {
							r.conn = c.(*net.TCPConn)
						}
						return err
					})
					r.err = inside
					dialled <- r
				}()
				for end := time.Now().Add(eventPatience); p.must("", "ss", "-tnH", "state", row.state) == ""; time.Sleep(time.Millisecond) {
					if time.Now().After(end) {
						t.Fatalf("no socket of the pod is in %s", row.state)
					}
				}
				p.capture(0).want(t, 0)
				at.nft("delete table inet lossy")
				r := <-dialled
				if r.err != nil {
					t.Fatal(r.err)
				}
				t.Cleanup(func() { r.conn.Close() })
				if err := says(r.conn, r.conn, "echo"); err != nil {
					t.Fatal(err)
				}
				if row.inbound {
					return // its words are on the wire in any case
				}
				taken := strings.Contains(p.must("", "ss", "-tnH", "state", "established", "sport = :15001"), ":")
				for end := time.Now().Add(eventPatience); taken && p.remembers(r.conn.LocalAddr()); time.Sleep(5 * time.Millisecond) {
					if time.Now().After(end) {
						t.Fatal("a captured connection is still taken for an open one")
					}
				}
				wire := sniff(t, p.far, "far0")
				p.forgetFlows()
				heard := says(r.conn, r.conn, "secret of a handshake")
				if err := says(leaves.client, leaves.server, "told to all"); err != nil {
					t.Error(err)
				}
				wire.until(t, "told to all")
				if leaked := wire.saw("secret of a handshake"); leaked == taken {
					t.Errorf("captured: %t; seen on the wire: %t", taken, leaked)
				}
				if heard != nil && taken {
					t.Errorf("the captured connection: %v", heard)
				}
			})
		}
	}
}

// remembers reports whether an address is among the open connections.
func (p *realPod) remembers(a net.Addr) bool {
	p.Helper()
	at := plain(a)
	return strings.Contains(p.nft("list table inet "+tableName), fmt.Sprintf("%s . %d . ", at.Addr(), at.Port()))
}

// echoAll sends back what every connection says.
func echoAll(ln net.Listener) {
	for {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			_, _ = io.Copy(conn, conn)
		}()
	}
}

// TestFirstApplyKilled kills first applies between and beside their two commits. What
// is open stays open; a guard that is left is named, and goes with the next apply.
func TestFirstApplyKilled(t *testing.T) {
	p := newRealPod(t)
	whole, _ := p.openEverywhere()
	config := "version: 1\n" + captureWays[0].config
	start := time.Now()
	p.capture(0).want(t, 0)
	span := time.Since(start)
	p.run("remove").want(t, 0)
	seen := map[string]int{}
	most := howOften(200, 1000)
	for round := 0; round < most && (round < howOften(20, 300) || seen["guard"] == 0); round++ {
		cmd, _, _ := p.command(config, "apply", "--config", "-")
		p.launch(cmd)
		delay := time.Duration(rand.Float64() * float64(span))
		for start := time.Now(); time.Since(start) < delay; {
			time.Sleep(50 * time.Microsecond)
		}
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()
		table := ""
		if len(p.tables()) > 0 {
			table = p.nft("list table inet " + tableName)
		}
		verified := p.feed(config, "verify", "--config", "-")
		switch {
		case table == "":
			seen["nothing"]++
			verified.want(t, 3)
		case strings.Contains(table, continuity.OpenGuard().Reason):
			seen["guard"]++
			if !strings.Contains(verified.want(t, 3).out, continuity.OpenGuard().Reason) {
				t.Errorf("a guard is left, and verify says %s", verified)
			}
			if tag := p.run("verify").want(t, 3).out; !strings.Contains(tag, "chain output") {
				t.Errorf("a guard is left, and verify by the tag says %s", tag)
			}
		default:
			seen["whole"]++
			verified.want(t, 0)
		}
		for _, o := range whole {
			o.lives(t, "after a kill")
		}
		p.capture(0).want(t, 0)
		p.feed(config, "verify", "--config", "-").want(t, 0)
		for _, o := range whole {
			o.lives(t, "after the apply that mended")
		}
		p.run("remove").want(t, 0)
		if t.Failed() {
			break
		}
	}
	t.Logf("killed within %s: %v", span, seen)
	if seen["guard"] == 0 && !t.Failed() {
		t.Errorf("in %d rounds no apply was killed between its commits", most)
	}
}

// TestFirstApplyOfManyPods enrols 100 namespaces with traffic in both directions and
// families. No connection is reset.
func TestFirstApplyOfManyPods(t *testing.T) {
	needUsers(t)
	const pods = 100
	c := newCLI(t)
	far, err := scratch.NewNamespace()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { far.Close() })
	folder := t.TempDir()
	worlds := []*net.TCPListener{listenAs(t, far, 0, 0, "0.0.0.0:0"), listenAs(t, far, 0, 0, "[::]:0")}
	var open []*opened
	for i := range pods {
		pod, err := scratch.NewNamespace()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { pod.Close() })
		link := fmt.Sprintf("far%d", i)
		err = errors.Join(scratch.Veth(pod, "eth0", far, link),
			pod.Sysctl("net/ipv6/conf/eth0/accept_dad", "0"), far.Sysctl("net/ipv6/conf/"+link+"/accept_dad", "0"),
			os.Symlink(pod.Path(), filepath.Join(folder, fmt.Sprintf("pod%03d", i))))
		ends := [][2]netip.Prefix{
			{netip.MustParsePrefix(fmt.Sprintf("10.99.%d.2/30", i)), netip.MustParsePrefix(fmt.Sprintf("10.99.%d.1/30", i))},
			{netip.MustParsePrefix(fmt.Sprintf("fd99:%x::2/64", i)), netip.MustParsePrefix(fmt.Sprintf("fd99:%x::1/64", i))},
		}
		for _, e := range ends {
			err = errors.Join(err, pod.AddAddress("eth0", e[0]), far.AddAddress(link, e[1]))
		}
		if err = errors.Join(err, pod.Up("eth0"), far.Up(link)); err != nil {
			t.Fatal(err)
		}
		p := &realPod{cli: c}
		for k, e := range ends {
			app := listenAs(t, pod, appID, appID, []string{"0.0.0.0:0", "[::]:0"}[k])
			open = append(open,
				p.open(fmt.Sprintf("outbound of pod %d", i), pod, appID, worlds[k], netip.AddrPortFrom(e[1].Addr(), plain(worlds[k].Addr()).Port())),
				p.open(fmt.Sprintf("inbound of pod %d", i), far, 0, app, netip.AddrPortFrom(e[0].Addr(), plain(app.Addr()).Port())))
		}
	}
	stop := make(chan struct{})
	var running sync.WaitGroup
	for k := range 4 {
		running.Go(func() { talkUntil(t, stop, open[k*len(open)/4:(k+1)*len(open)/4]) })
	}
	out := c.run("ambient", "pod", "apply", "--v6", "--dns", "--netns", folder+"/*").want(t, 0)
	close(stop)
	running.Wait()
	out.prints(t, fmt.Sprintf("%d network namespaces: %d created\n", pods, pods))
	for _, o := range open {
		o.lives(t, "after the apply")
	}
	c.run("ambient", "pod", "verify", "--v6", "--dns", "--netns", folder+"/*").want(t, 0)
}

// talkUntil has both ends of connections talk, each in its turn.
func talkUntil(t *testing.T, stop chan struct{}, open []*opened) {
	for {
		for _, o := range open {
			select {
			case <-stop:
				return
			default:
			}
			o.lives(t, "during the apply")
			if t.Failed() {
				return
			}
		}
	}
}
