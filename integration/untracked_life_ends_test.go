// SPDX-License-Identifier: Apache-2.0

//go:build linux

package integration

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/weir-mesh/weir/internal/scratch"
	"github.com/weir-mesh/weir/proxy"
	"golang.org/x/sys/unix"
)

const (
	lifeBytes   = 4 << 20 // of an upload
	lifeText    = 1000    // of what is answered
	lifeTimeout = 30 * time.Second
	slowly      = 200 * time.Millisecond // while which the other end has gone already
)

// lifeEnd is how a connection ended for the service.
type lifeEnd struct {
	bytes int64
	err   error
}

// lifeService does with each connection what its first line asks for, "KIND ID", and keeps how it ended.
type lifeService struct{ ends sync.Map }

func (s *lifeService) end(id string) (lifeEnd, bool) {
	e, ok := s.ends.LoadAndDelete(id)
	if !ok {
		return lifeEnd{}, false
	}
	return e.(lifeEnd), true
}

func (s *lifeService) serve(conn *net.TCPConn) {
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(lifeTimeout)) // an open connection
	r := bufio.NewReader(conn)
	line, err := r.ReadString('\n')
	if err != nil {
		return
	}
	var kind, id string
	if _, err := fmt.Sscan(line, &kind, &id); err != nil {
		return
	}
	var end lifeEnd
	text := bytes.Repeat([]byte("y"), lifeText)
	switch kind {
	case "echo":
		end.bytes, end.err = io.Copy(struct{ io.Writer }{conn}, r)
	case "once":
		_, end.err = conn.Write(text)
	case "count":
		time.Sleep(slowly) // the proxy closes before this is read
		end.bytes, end.err = io.Copy(io.Discard, r)
	case "flood":
		for end.err == nil {
			_, end.err = conn.Write(text)
		}
	case "late":
		if end.bytes, end.err = io.Copy(io.Discard, r); end.err == nil {
			time.Sleep(slowly) // the other half is open alone
			_, end.err = conn.Write(bytes.Repeat(text, 100))
		}
	case "reset":
		_ = conn.SetLinger(0) // an open connection
	case "told":
		if _, end.err = conn.Write([]byte("y")); end.err == nil {
			_, end.err = io.Copy(io.Discard, r)
		}
	}
	s.ends.Store(id, end)
}

// serveLife serves until the test ends. Receive buffers are small, so that most of an upload is under
// way when the proxy closes.
func serveLife(t testing.TB, ns *scratch.Namespace, id uint32, ports ...uint16) *lifeService {
	t.Helper()
	s := &lifeService{}
	var running sync.WaitGroup
	t.Cleanup(running.Wait)
	for _, port := range ports {
		ln := listenAs(t, ns, id, id, fmt.Sprintf(":%d", port))
		raw, err := ln.SyscallConn()
		if err == nil {
			err = raw.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 16<<10) })
		}
		if err != nil {
			t.Fatal(err)
		}
		running.Go(func() {
			for {
				conn, err := ln.AcceptTCP()
				if err != nil {
					return
				}
				running.Go(func() { s.serve(conn) })
			}
		})
	}
	return s
}

// lifeRelay is the project's own proxy on a port. Connections to the hasty port are relayed by a proxy
// that closes both of them as soon as it has written what the client sent.
func (p *realPod) lifeRelay(port, hasty uint16, dialer func(proxy.ConnInfo) proxy.Dialer) {
	p.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var ln *proxy.Listener
	err := p.pod.DoAs(proxyID, proxyID, func() (err error) {
		ln, err = proxy.Listen(ctx, netip.AddrPortFrom(netip.IPv6Unspecified(), port), proxy.SocketOptions{Transparent: true, Mark: untrackedMark})
		return err
	})
	if err != nil {
		p.Fatal(err)
	}
	var running sync.WaitGroup
	carry := func(client *proxy.Conn) {
		var upstream *net.TCPConn
		err := p.pod.DoAs(proxyID, proxyID, func() (err error) {
			upstream, err = dialer(client.ConnInfo).Dial(ctx, client.ConnInfo)
			return err
		})
		if err != nil {
			client.Reset()
			return
		}
		if client.OriginalDst.Port() == hasty {
			_, _ = io.Copy(upstream, client.TCPConn)
			upstream.Close()
			client.Close()
			return
		}
		_, _ = proxy.Relay(ctx, client.TCPConn, upstream, 0) // the ends tell how it ended
	}
	running.Go(func() {
		for {
			client, err := ln.AcceptConn()
			if err != nil {
				return
			}
			running.Go(func() { carry(client) })
		}
	})
	p.Cleanup(func() {
		cancel()
		ln.Close()
		running.Wait()
	})
}

// lifeClient is a connection of a client and what it asked for.
type lifeClient struct {
	*net.TCPConn
	id string
}

// ask opens a connection from that port, 0 for any, and says what it is for.
func (w *lifeWay) ask(kind string, hasty bool, port uint16) (*lifeClient, error) {
	number := w.asked.Add(1)
	to := w.to
	if hasty {
		to = w.hasty
	}
	if port == 0 && w.firstPort > 0 {
		port = w.firstPort + uint16(number%portsOfLife)
	}
	d := net.Dialer{Timeout: lifeTimeout, FallbackDelay: -1, KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: time.Second, Interval: time.Second, Count: 3},
		LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(w.from, port)),
		Control: func(_, _ string, raw syscall.RawConn) error {
			var failed error
			return errors.Join(raw.Control(func(fd uintptr) { failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) }), failed)
		}}
	c := &lifeClient{id: fmt.Sprintf("%s-%d", w.name, number)}
	err := w.in.DoAs(appID, appID, func() error {
		conn, err := d.DialContext(context.Background(), "tcp", to.String())
		if err == nil {
			c.TCPConn = conn.(*net.TCPConn)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	_ = c.SetDeadline(time.Now().Add(lifeTimeout)) // an open connection
	if _, err := fmt.Fprintf(c, "%s %s\n", kind, c.id); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// ended waits until the service tells how the connection ended.
func (w *lifeWay) ended(c *lifeClient) (lifeEnd, error) {
	for until := time.Now().Add(lifeTimeout); time.Now().Before(until); time.Sleep(5 * time.Millisecond) {
		if end, ok := w.service.end(c.id); ok {
			return end, nil
		}
	}
	return lifeEnd{}, errors.New("the service still has it open, or never had it")
}
