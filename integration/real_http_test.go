// SPDX-License-Identifier: Apache-2.0

//go:build linux

package integration

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weir-mesh/weir/internal/scratch"
	"github.com/weir-mesh/weir/proxy"
)

// The headers by which a proxy tells what it saw.
const (
	headerBy  = "X-Proxy" // the proxy's name: a request without it came past the proxy
	headerFor = "X-Forwarded-For"
	headerTo  = "X-Original-Destination"
)

// The headers by which a caller says where it goes.
const (
	headerAddress = "X-Address"
	headerPort    = "X-Port"
)

// seen is what a web service sees of a request.
type seen struct {
	By, For, To string         // what the proxy says
	Peer        netip.AddrPort // whom the service sees
	Asked       netip.AddrPort // where the connection was going as it arrived
}

// web is a web service that answers with what it sees.
type web struct {
	connections, requests, past atomic.Int64
}

type askedKey struct{}

// serveWeb serves until the test ends.
func serveWeb(t testing.TB, ns *scratch.Namespace, id uint32, ports ...uint16) *web {
	t.Helper()
	w := &web{}
	server := &http.Server{
		Handler: w,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			w.connections.Add(1)
			asked, err := proxy.OriginalDst(c.(*net.TCPConn))
			if err != nil {
				asked = netip.AddrPort{}
			}
			return context.WithValue(ctx, askedKey{}, asked)
		},
	}
	var running sync.WaitGroup
	for _, port := range ports {
		ln := listenAs(t, ns, id, id, fmt.Sprintf(":%d", port))
		running.Go(func() { _ = server.Serve(ln) }) // until it is closed
	}
	t.Cleanup(func() {
		_ = server.Close()
		running.Wait()
	})
	return w
}

func (w *web) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	w.requests.Add(1)
	s := seen{By: r.Header.Get(headerBy), For: r.Header.Get(headerFor), To: r.Header.Get(headerTo)}
	if s.By == "" {
		w.past.Add(1)
	}
	s.Peer, _ = netip.ParseAddrPort(r.RemoteAddr)
	s.Peer = netip.AddrPortFrom(s.Peer.Addr().Unmap(), s.Peer.Port())
	s.Asked, _ = r.Context().Value(askedKey{}).(netip.AddrPort)
	_ = json.NewEncoder(rw).Encode(s) // to one who may have gone
}

// load is many requests, each over a connection of its own.
type load struct {
	in       *scratch.Namespace
	uid, gid uint32
	requests int
	from     func(i int) netip.Addr // none leaves it to the kernel
	to       func(i int) netip.AddrPort
	right    func(i int, s seen) bool
}

const workers = 16

// run sends the requests and fails the test for each that was not answered
// rightly.
func (l load) run(t testing.TB) {
	t.Helper()
	var next, failed atomic.Int64
	var group sync.WaitGroup
	start := time.Now()
	for range workers {
		group.Go(func() {
			err := l.in.DoAs(l.uid, l.gid, func() error {
				for i := int(next.Add(1)) - 1; i < l.requests; i = int(next.Add(1)) - 1 {
					if err := l.one(i); err != nil && failed.Add(1) <= 5 {
						t.Errorf("request %d to %s: %v", i, l.to(i), err)
					}
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	took := time.Since(start)
	t.Logf("%d requests in %s, %.0f a second, %d failed", l.requests, took.Round(time.Millisecond), float64(l.requests)/took.Seconds(), failed.Load())
}

func (l load) one(i int) error {
	var from netip.Addr
	if l.from != nil {
		from = l.from(i)
	}
	s, err := get(from, l.to(i))
	if err != nil {
		return err
	}
	if !l.right(i, s) {
		return fmt.Errorf("from %s, the service saw %+v", from, s)
	}
	return nil
}

// get is one request from the calling thread.
func get(from netip.Addr, to netip.AddrPort) (s seen, err error) {
	conn, err := dialHere(from, to)
	if err != nil {
		return s, err
	}
	defer conn.Close()
	return ask(conn, to)
}

// ask sends a request over a connection to that destination, and reads its end.
func ask(conn *net.TCPConn, to netip.AddrPort) (s seen, err error) {
	if err := conn.SetDeadline(time.Now().Add(eventPatience)); err != nil {
		return s, err
	}
	_, err = fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: a.test\r\n%s: %s\r\n%s: %d\r\nConnection: close\r\n\r\n", headerAddress, to.Addr(), headerPort, to.Port())
	if err != nil {
		return s, err
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return s, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return s, fmt.Errorf("status %s", response.Status)
	}
	return s, json.NewDecoder(response.Body).Decode(&s)
}

// only checks that the service got that many requests, and that a proxy sent
// every one of them and opened every connection.
func (w *web) only(t testing.TB, requests int) {
	t.Helper()
	got, past, connections := w.requests.Swap(0), w.past.Swap(0), w.connections.Swap(0)
	if got != int64(requests) || past > 0 || connections != got {
		t.Errorf("the service got %d requests over %d connections, %d of them past the proxy (want %d)", got, connections, past, requests)
	}
}
