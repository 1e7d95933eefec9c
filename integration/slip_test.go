// SPDX-License-Identifier: Apache-2.0

//go:build linux

package integration

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"regexp"
	"runtime"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weir-mesh/weir/rules"
	"golang.org/x/sys/unix"
)

// slips are pairs of states that both capture connections from 10.50.0.0/16 to
// ports 80 and 443 of 10.200.0.0/16.
var slips = []struct {
	why  string
	a, b rules.State
}{
	{"included prefixes, elements alone", capture{include: prefixes("10.128.0.0/9")}.state(), capture{include: prefixes("10.200.0.0/16", "172.16.0.0/12")}.state()},
	{"included prefixes and other rules", capture{include: prefixes("10.128.0.0/9")}.state(), capture{include: prefixes("10.200.0.0/16", "172.16.0.0/12"), rules: 3}.state()},
	{"excluded prefixes and ports, and other rules", capture{exclude: prefixes("1.0.0.0/8"), ports: []rules.Port{1, 2}}.state(), capture{exclude: manyPrefixes(500), ports: []rules.Port{3}, rules: 3}.state()},
	{"a verdict map, elements alone", capture{verdicts: []rules.Port{80, 443}}.state(), capture{verdicts: []rules.Port{80, 443, 8080}}.state()},
	{"a verdict map and other rules", capture{verdicts: []rules.Port{80, 443}}.state(), capture{verdicts: []rules.Port{80, 443, 8080}, rules: 3}.state()},
	{"prefixes against a verdict map", capture{include: prefixes("10.128.0.0/9")}.state(), capture{verdicts: []rules.Port{80, 443}}.state()},
	{"another priority and another chain", capture{verdicts: []rules.Port{80, 443}}.state(), capture{include: prefixes("10.200.0.0/16"), priority: -90, apart: true}.state()},
	{"an earlier priority", capture{include: prefixes("10.200.0.0/16")}.state(), capture{include: prefixes("10.192.0.0/10"), priority: -120}.state()},
	{"REDIRECT against marks and TPROXY", capture{include: prefixes("10.200.0.0/16")}.state(), byMark()},
}

// byMark captures outbound connections in other hooks: a mark, a policy rule to
// lo, and tproxy there.
func byMark() rules.State {
	s := capture{tproxy: true}.state()
	t := &rules.Table{Name: tableName}
	s.Table = t
	included := t.AddPrefixSets("included", prefixes("10.200.0.0/16", "fd00::/8")...)
	out := &rules.Chain{Name: "by_mark", Base: &rules.Base{Type: rules.RouteType, Hook: rules.Output, Priority: rules.PriorityMangle}}
	for _, r := range t.Expand(rules.Rule{Reason: "included destinations go by lo",
		Nodes: []rules.Node{rules.Daddr.InSet(included), rules.L4Proto.Is(rules.TCP), rules.MetaMark.SetMasked(divertMark, markMask)}}, bothFamilies...) {
		out.Add(r.Reason, r.Nodes...)
	}
	in := &rules.Chain{Name: "divert", Base: &rules.Base{Type: rules.FilterType, Hook: rules.Prerouting, Priority: rules.PriorityMangle}}
	in.Add("what carries the mark goes to the proxy", rules.IIfName.Is("lo"), rules.MetaMark.Masked(divertMark, markMask), rules.L4Proto.Is(rules.TCP),
		rules.TProxy{Port: outboundPort}, rules.Accept())
	t.Chains = append(t.Chains, out, in)
	return s
}

// TestNoConnectionSlips connects without rest while two states that capture the
// connections take turns. The far side counts what reaches it: nothing.
func TestNoConnectionSlips(t *testing.T) {
	connects, applies := howOften(600, 120_000), howOften(8, 120)
	var total, all int
	for _, tt := range slips {
		t.Run(tt.why, func(t *testing.T) {
			p := newPath(t)
			s := p.session()
			if _, err := s.Apply(context.Background(), tt.a); err != nil {
				t.Fatal(err)
			}
			c := p.connect()
			n := 0
			for start := time.Now(); (int(c.done.Load()) < connects || n < applies) && time.Since(start) < 3*time.Minute; n++ {
				if _, err := s.Apply(context.Background(), []rules.State{tt.b, tt.a}[n%2]); err != nil {
					t.Error(err)
					break
				}
				time.Sleep(500 * time.Microsecond)
				c.check()
			}
			c.end()
			slipped := p.arrived()
			t.Logf("%d connections during %d applies: %d slipped, %d got no answer", c.done.Load(), n, slipped, c.lost.Load())
			if slipped > 0 {
				t.Errorf("%d of %d connections reached their destination directly", slipped, c.done.Load())
			}
			if int(c.done.Load()) < connects {
				t.Errorf("%d connections are fewer than %d", c.done.Load(), connects)
			}
			total, all = total+int(c.done.Load()), all+n

			// That the far side would have counted it:
			if _, err := s.Remove(context.Background()); err != nil {
				t.Fatal(err)
			}
			p.do(func() error {
				if err := connectFrom(netip.MustParseAddr("10.50.1.1"), netip.MustParseAddrPort("10.200.1.1:80")); !errors.Is(err, unix.ECONNREFUSED) {
					return fmt.Errorf("without rules a connection ends in %v", err)
				}
				return nil
			})
			if p.arrived() != slipped+1 {
				t.Errorf("the far side does not count: %d", p.arrived())
			}
		})
	}
	t.Logf("in all %d connections during %d applies", total, all)
}

// path is a namespace with a proxy that takes connections, and a way to a peer
// that counts and refuses them.
type path struct {
	*namespace
	peer *namespace
}

func newPath(t testing.TB) *path {
	t.Helper()
	p := &path{newNamespace(t), newNamespace(t)}
	p.do(func() error {
		return os.WriteFile("/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_close", []byte("1"), 0)
	})
	p.ip("link add eth0 address 02:00:00:00:00:02 type veth peer name eth0 address 02:00:00:00:00:01 netns /proc/" + strconv.Itoa(os.Getpid()) + "/fd/" + strconv.Itoa(int(p.peer.file.Fd())))
	for i, n := range []*namespace{p.namespace, p.peer} {
		here, there := strconv.Itoa(2-i), strconv.Itoa(1+i)
		n.ip("link set eth0 up")
		n.ip("addr add 198.18.0." + here + "/24 dev eth0")
		n.ip("neigh add 198.18.0." + there + " lladdr 02:00:00:00:00:0" + there + " dev eth0")
		n.ip("route add default via 198.18.0." + there)
	}
	p.ip("route add local 10.50.0.0/16 dev lo")
	p.peer.nft(`
		add table inet judge
		add counter inet judge arrived
		add chain inet judge c { type filter hook prerouting priority -300; }
		add rule inet judge c ip daddr 10.200.0.0/16 tcp flags & (syn | ack) == syn counter name arrived reject with tcp reset
	`)
	var listener int
	p.do(func() (err error) { listener, err = listenTransparent(); return err })
	t.Cleanup(func() { unix.Shutdown(listener, unix.SHUT_RDWR); unix.Close(listener) })
	for range 2 {
		go func() {
			for {
				fd, _, err := unix.Accept4(listener, unix.SOCK_CLOEXEC)
				if err != nil && err != unix.EINTR && err != unix.ECONNABORTED {
					return // closed
				}
				if err == nil {
					reset(fd)
				}
			}
		}()
	}
	return p
}

// arrived are the connections that the peer has seen.
func (p *path) arrived() int {
	p.Helper()
	m := regexp.MustCompile(`packets (\d+)`).FindStringSubmatch(p.peer.nft("list counter inet judge arrived"))
	if m == nil {
		p.Fatal("there is no counter")
	}
	n, _ := strconv.Atoi(m[1])
	return n
}

// listenTransparent opens the proxy's socket, which takes what REDIRECT and TPROXY bring.
func listenTransparent() (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	return fd, errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_TRANSPARENT, 1),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1),
		unix.Bind(fd, &unix.SockaddrInet4{Port: int(outboundPort)}),
		unix.Listen(fd, 4096))
}

// reset closes a connection at once, with nothing left to wait for.
func reset(fd int) {
	_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	_ = unix.Close(fd)
}

// connectors are threads that connect without rest.
type connectors struct {
	testing.TB
	done, lost atomic.Int64
	stop       func()
	finished   chan error
}

const connectorThreads = 3

func (p *path) connect() *connectors {
	ctx, stop := context.WithCancel(context.Background())
	p.Cleanup(stop)
	c := &connectors{TB: p, stop: stop, finished: make(chan error, connectorThreads)}
	for i := range connectorThreads {
		go func() {
			c.finished <- p.try(func() error { return p.connectOn(i, ctx.Done(), &c.done, &c.lost) })
		}()
	}
	return c
}

// check fails where one has ended.
func (c *connectors) check() {
	c.Helper()
	select {
	case err := <-c.finished:
		c.Fatal(err)
	default:
	}
}

// end stops them, and waits.
func (c *connectors) end() {
	c.Helper()
	c.stop()
	for range connectorThreads {
		if err := <-c.finished; err != nil {
			c.Fatal(err)
		}
	}
}

// connectOn connects until it is stopped, from and to ever other addresses.
func (p *path) connectOn(worker int, stop <-chan struct{}, done, lost *atomic.Int64) error {
	for i := 0; ; i++ {
		select {
		case <-stop:
			return nil
		default:
		}
		from := netip.AddrFrom4([4]byte{10, 50, byte(worker*50 + i>>8%50), byte(i)})
		to := netip.AddrFrom4([4]byte{10, 200, byte(i >> 5), byte(i * 7)})
		err := connectFrom(from, netip.AddrPortFrom(to, []uint16{80, 443}[i%2]))
		done.Add(1)
		switch {
		case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINPROGRESS), errors.Is(err, unix.ETIMEDOUT):
			lost.Add(1)
		case err != nil && !errors.Is(err, unix.ECONNREFUSED) && !errors.Is(err, unix.ECONNRESET) && !errors.Is(err, unix.EINTR):
			return err
		}
		runtime.Gosched()
	}
}

// connectFrom connects, waits for an answer and resets the connection.
func connectFrom(from netip.Addr, to netip.AddrPort) error {
	return connectBetween(netip.AddrPortFrom(from, 0), to)
}

// connectBetween is connectFrom from a port, 0 for any.
func connectBetween(from, to netip.AddrPort) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer reset(fd)
	return errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &unix.Timeval{Sec: 3}),
		unix.Bind(fd, &unix.SockaddrInet4{Addr: from.Addr().As4(), Port: int(from.Port())}),
		unix.Connect(fd, &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())}))
}
