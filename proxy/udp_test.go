// SPDX-License-Identifier: Apache-2.0

//go:build linux

package proxy_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weir-mesh/weir/proxy"
)

// relayed is a UDPServer at work.
type relayed struct {
	ln     *proxy.UDPListener
	opened chan proxy.ConnInfo
	ended  chan ended
	stop   func()
}

// serveUDP runs s on a new listener until the test ends. It takes both hooks for itself.
func serveUDP(t *testing.T, s *proxy.UDPServer, addr string, options proxy.SocketOptions) *relayed {
	t.Helper()
	ln, err := proxy.ListenUDP(t.Context(), netip.MustParseAddrPort(addr), options)
	if err != nil {
		t.Fatal(err)
	}
	r := &relayed{ln: ln, opened: make(chan proxy.ConnInfo, 256), ended: make(chan ended, 256)}
	s.OnOpen = func(c proxy.ConnInfo) { r.opened <- c }
	s.OnClose = func(c proxy.ConnInfo, carried proxy.Bytes, err error) { r.ended <- ended{c, carried, err} }
	r.stop = serving(t, func(ctx context.Context) error { return s.Serve(ctx, ln) })
	return r
}

// udpTo is a Dial that goes to addr whatever the original destination was.
func udpTo(addr netip.AddrPort, d proxy.Dialer) func(context.Context, proxy.ConnInfo) (*net.UDPConn, error) {
	return func(ctx context.Context, c proxy.ConnInfo) (*net.UDPConn, error) {
		c.OriginalDst = addr
		return d.DialUDP(ctx, c)
	}
}

// udpOrigin answers each datagram with who sent it and what it said.
func udpOrigin(t *testing.T, network, addr string) netip.AddrPort {
	t.Helper()
	conn, err := net.ListenPacket(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	go func() {
		b := make([]byte, 1<<16)
		for {
			n, from, err := conn.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = conn.WriteTo([]byte(heardFrom(from.(*net.UDPAddr).AddrPort(), string(b[:n]))), from)
		}
	}()
	return conn.LocalAddr().(*net.UDPAddr).AddrPort()
}

func heardFrom(from netip.AddrPort, text string) string {
	return netip.AddrPortFrom(from.Addr().Unmap(), from.Port()).String() + " " + text
}

// udpDial is a client that hears no other address than the one that it asks.
func udpDial(t *testing.T, to netip.AddrPort) *net.UDPConn {
	t.Helper()
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return conn
}

// ask sends a datagram and returns as whom the origin saw its sender.
func ask(t *testing.T, conn *net.UDPConn, text string) netip.AddrPort {
	t.Helper()
	write(t, conn, text)
	b := make([]byte, 1<<16)
	n, err := conn.Read(b)
	if err != nil {
		t.Fatalf("%d bytes to %s: %v", len(text), conn.RemoteAddr(), err)
	}
	from, said, _ := strings.Cut(string(b[:n]), " ")
	if said != text {
		t.Fatalf("%d other bytes came back than the %d sent", len(said), len(text))
	}
	return netip.MustParseAddrPort(from)
}

// askAgain asks until the last datagram is answered, as clients of UDP do: where the machine is busy, a flow that
// may be idle for a moment alone has ended before its answer comes. None is then on its way any more.
func askAgain(t *testing.T, conn *net.UDPConn, text string, every time.Duration) {
	t.Helper()
	b := make([]byte, 1<<16)
	for i, end := 0, time.Now().Add(patience); time.Now().Before(end); i++ {
		last := fmt.Sprint(text, " ", i)
		write(t, conn, last)
		for until := time.Now().Add(every); ; {
			_ = conn.SetReadDeadline(until)
			n, err := conn.Read(b)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasSuffix(string(b[:n]), " "+last) {
				return
			}
		}
	}
	t.Fatalf("%q to %s was not answered", text, conn.RemoteAddr())
}

func udpLocal(conn *net.UDPConn) netip.AddrPort { return conn.LocalAddr().(*net.UDPAddr).AddrPort() }

func TestUDPFlows(t *testing.T) {
	dst := udpOrigin(t, "udp", "127.0.0.1:0")
	r := serveUDP(t, &proxy.UDPServer{Dial: udpTo(dst, proxy.Dialer{Source: []netip.Addr{netip.MustParseAddr("127.0.0.6")}})}, "127.0.0.1:0", proxy.SocketOptions{})
	seen := map[netip.AddrPort]int{}
	var clients []*net.UDPConn
	for i := range 3 {
		conn := udpDial(t, r.ln.Addr())
		clients = append(clients, conn)
		for _, text := range []string{"one", "", strings.Repeat("x", 60000)} {
			from := ask(t, conn, text)
			if from.Addr().String() != "127.0.0.6" {
				t.Errorf("the origin saw %s, want 127.0.0.6", from)
			}
			seen[from]++
		}
		want := proxy.ConnInfo{Client: udpLocal(conn), Listener: r.ln.Addr(), OriginalDst: r.ln.Addr()}
		if got := receive(t, r.opened); got != want {
			t.Errorf("client %d: opened %v, want %v", i, got, want)
		}
	}
	if len(seen) != 3 {
		t.Errorf("the origin saw %v, want one address for each client", seen)
	}
	if got := r.ln.Stats(); got != (proxy.UDPStats{Flows: 3, Opened: 3}) {
		t.Errorf("counted %+v, want 3 flows", got)
	}
	r.stop()
	for range clients {
		// An answer has the origin's "127.0.0.6:PORT " before it.
		got := receive(t, r.ended)
		if !errors.Is(got.err, context.Canceled) || got.carried.FromClient != 60003 || got.carried.FromUpstream < 60003+3*len64("127.0.0.6:1 ") {
			t.Errorf("ended %+v, want the cancellation and 60,003 bytes each way", got)
		}
	}
	if got := r.ln.Stats(); got.Flows != 0 {
		t.Errorf("counted %+v, want no flow", got)
	}
}

func len64(s string) int64 { return int64(len(s)) }

// A flow that carries something stays, and the one that does not is ended and can be opened again.
func TestUDPIdle(t *testing.T) {
	const idle = 100 * time.Millisecond
	dst := udpOrigin(t, "udp", "127.0.0.1:0")
	r := serveUDP(t, &proxy.UDPServer{Dial: udpTo(dst, proxy.Dialer{}), IdleTimeout: idle}, "127.0.0.1:0", proxy.SocketOptions{})
	silent := udpDial(t, r.ln.Addr())
	askAgain(t, silent, "hello", idle)
	got := receive(t, r.ended)
	if !errors.Is(got.err, proxy.ErrIdle) || got.conn.Client != udpLocal(silent) {
		t.Errorf("ended %+v, want the silent flow to be idle", got)
	}
	askAgain(t, silent, "hello again", idle)
	if got := r.ln.Stats(); got.Idle < 1 || got.Opened < 2 {
		t.Errorf("counted %+v, want two flows, of which one was idle", got)
	}
}

func TestUDPEvictsTheOldest(t *testing.T) {
	dst := udpOrigin(t, "udp", "127.0.0.1:0")
	r := serveUDP(t, &proxy.UDPServer{Dial: udpTo(dst, proxy.Dialer{}), MaxFlows: 3}, "127.0.0.1:0", proxy.SocketOptions{})
	var clients []*net.UDPConn
	for i := range 3 {
		conn := udpDial(t, r.ln.Addr())
		ask(t, conn, fmt.Sprint(i))
		clients = append(clients, conn)
	}
	ask(t, clients[0], "the first is not the oldest any more")
	for i, want := range []int{1, 2, 0} {
		conn := udpDial(t, r.ln.Addr())
		ask(t, conn, "one more")
		if got := receive(t, r.ended); !errors.Is(got.err, proxy.ErrEvicted) || got.conn.Client != udpLocal(clients[want]) {
			t.Errorf("ended %+v, want client %d at %s to be evicted", got, want, udpLocal(clients[want]))
		}
		if got := r.ln.Stats(); got.Flows != 3 || got.Evicted != uint64(i+1) {
			t.Errorf("counted %+v, want 3 flows and %d evicted", got, i+1)
		}
	}
}

// What waits for the dials of all flows together is bounded too, and there is room again once it has been sent.
func TestUDPWaitsWithinBounds(t *testing.T) {
	const each, size = 32, 60000 // as many as one flow may have waiting
	dst := udpOrigin(t, "udp", "127.0.0.1:0")
	dialled := make(chan struct{})
	dial := udpTo(dst, proxy.Dialer{})
	r := serveUDP(t, &proxy.UDPServer{Dial: func(ctx context.Context, c proxy.ConnInfo) (*net.UDPConn, error) {
		select {
		case <-dialled:
		case <-ctx.Done():
		}
		return dial(ctx, c)
	}, DialTimeout: 2 * patience}, "127.0.0.1:0", proxy.SocketOptions{})
	text := make([]byte, size)
	// The kernel drops what the listener has no room for: there are as many flows as it takes.
	for end := time.Now().Add(patience); r.ln.Stats().Dropped == 0; {
		client := udpDial(t, r.ln.Addr())
		for range each {
			if _, err := client.Write(text); err != nil {
				t.Fatal(err)
			}
		}
		if time.Now().After(end) {
			t.Fatalf("none of what was sent to flows that wait was dropped: %+v", r.ln.Stats())
		}
	}
	close(dialled)
	ask(t, udpDial(t, r.ln.Addr()), "there is room again")
}

// What comes before the dial is through is sent in order; it is bounded, and the rest is counted.
func TestUDPWaitsForTheDial(t *testing.T) {
	heard := make(chan string, 64)
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	go func() {
		b := make([]byte, 100)
		for {
			n, _, err := conn.ReadFrom(b)
			if err != nil {
				return
			}
			heard <- string(b[:n])
		}
	}()
	goOn := make(chan struct{})
	onward := udpTo(conn.LocalAddr().(*net.UDPAddr).AddrPort(), proxy.Dialer{})
	r := serveUDP(t, &proxy.UDPServer{Dial: func(ctx context.Context, c proxy.ConnInfo) (*net.UDPConn, error) {
		<-goOn
		return onward(ctx, c)
	}, DialTimeout: 2 * patience}, "127.0.0.1:0", proxy.SocketOptions{})
	client := udpDial(t, r.ln.Addr())
	const sent = 40
	for i := range sent {
		write(t, client, fmt.Sprint(i))
	}
	const kept = 32
	for deadline := time.Now().Add(patience); r.ln.Stats().Dropped != sent-kept; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("counted %+v, want 8 dropped", r.ln.Stats())
		}
	}
	close(goOn)
	for i := range kept {
		if got := receive(t, heard); got != fmt.Sprint(i) {
			t.Errorf("datagram %d is %q", i, got)
		}
	}
	write(t, client, "later")
	if got := receive(t, heard); got != "later" {
		t.Errorf("heard %q, want what was sent later", got)
	}
}

func TestUDPDialFails(t *testing.T) {
	r := serveUDP(t, &proxy.UDPServer{}, "127.0.0.1:0", proxy.SocketOptions{})
	write(t, udpDial(t, r.ln.Addr()), "for the listener itself")
	if got := receive(t, r.ended); !errors.Is(got.err, proxy.ErrLoop) {
		t.Errorf("ended %+v, want the loop to be refused", got)
	}
	if got := r.ln.Stats(); got.Failed != 1 || got.Flows != 0 || got.Dropped != 1 {
		t.Errorf("counted %+v, want one flow that failed and its datagram dropped", got)
	}
}

// A refusal does not end the flow: the server may come later. In a namespace of its own nobody else takes the port.
func TestUDPServerThatComesLater(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	dst := netip.MustParseAddrPort("127.0.0.1:53")
	r := serveUDP(t, &proxy.UDPServer{Dial: udpTo(dst, proxy.Dialer{})}, "127.0.0.1:0", proxy.SocketOptions{})
	client := udpDial(t, r.ln.Addr())
	write(t, client, "before the server is there")
	receive(t, r.opened)
	udpOrigin(t, "udp", dst.String())
	// The first may have met the closed port, or have waited for the dial and be heard now.
	write(t, client, "hello")
	b := make([]byte, 100)
	for text := ""; !strings.HasSuffix(text, " hello"); {
		n, err := client.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		text = string(b[:n])
	}
	if got := r.ln.Stats(); got.Opened != 1 || got.Flows != 1 {
		t.Errorf("counted %+v, want the one flow", got)
	}
}

func TestServeUDPFails(t *testing.T) {
	listen := func() *proxy.UDPListener {
		ln, err := proxy.ListenUDP(t.Context(), netip.MustParseAddrPort("127.0.0.1:0"), proxy.SocketOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return ln
	}
	closed := listen()
	closed.Close()
	if err := (&proxy.UDPServer{}).Serve(t.Context(), closed); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a closed listener: %v, want net.ErrClosed", err)
	}
	if err := (&proxy.UDPServer{MaxFlows: -1}).Serve(t.Context(), listen()); err == nil || !strings.Contains(err.Error(), "MaxFlows -1") {
		t.Errorf("a negative limit: %v, want it named", err)
	}
	taken := listen()
	defer taken.Close()
	if _, err := proxy.ListenUDP(t.Context(), taken.Addr(), proxy.SocketOptions{}); !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("a taken address: %v, want EADDRINUSE", err)
	}
}
