// SPDX-License-Identifier: Apache-2.0

//go:build linux

package watch

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weir-mesh/weir/capture"
	"github.com/weir-mesh/weir/internal/scratch"
	"github.com/weir-mesh/weir/modes"
)

// hello is what crypto/tls sends first: with its post-quantum key share more than an MTU of 1500 holds.
func helloFor(t testing.TB, name string) []byte {
	t.Helper()
	here, there := net.Pipe()
	defer here.Close()
	go func() {
		_ = tls.Client(there, &tls.Config{ServerName: name}).Handshake()
		there.Close()
	}()
	head := make([]byte, 5)
	if _, err := io.ReadFull(here, head); err != nil {
		t.Fatal(err)
	}
	body := make([]byte, binary.BigEndian.Uint16(head[3:]))
	if _, err := io.ReadFull(here, body); err != nil {
		t.Fatal(err)
	}
	return append(head, body...)
}

// named20 is a ClientHello for a name of 20 characters, of which others are made in place.
const named20 = "name-0000000.example"

type blast struct {
	connections, workers int
	hello                []byte         // for named20
	name                 func(int) bool // whether connection i has its own name
	cut                  int            // bytes of a first write, 0 for all in one
	ports                int            // of the server, from 1000 on; 0 is one port alone
	port                 int            // that one, 0 for 443
	sources              int            // ports of the client, 0 for as many as there are
}

// sink reads what it is sent, answers a byte and closes first, so that ports of clients can be used again.
func sink(t *testing.T, ns *scratch.Namespace, address string, length int) {
	t.Helper()
	var ln net.Listener
	scratch.Must(t, ns.Do(func() (err error) {
		ln, err = net.Listen("tcp", address)
		return err
	}))
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_, _ = io.ReadFull(conn, make([]byte, length))
				_, _ = conn.Write([]byte{1})
			}()
		}
	}()
}

// run opens the connections and returns how many failed.
func (b blast) run(t *testing.T, w world) int64 {
	t.Helper()
	var next, failed atomic.Int64
	var workers sync.WaitGroup
	at := strings.Index(string(b.hello), named20)
	if at < 0 {
		t.Fatal("the ClientHello has no name")
	}
	for range b.workers {
		workers.Go(func() {
			_ = w.pod.Do(func() error {
				hello := append([]byte(nil), b.hello...)
				for {
					i := int(next.Add(1)) - 1
					if i >= b.connections {
						return nil
					}
					if b.name(i) {
						copy(hello[at:], fmt.Sprintf("name-%07d.example", i))
					}
					if err := b.once(i, hello); err != nil {
						failed.Add(1)
					}
				}
			})
		})
	}
	workers.Wait()
	return failed.Load()
}

func (b blast) once(i int, hello []byte) error {
	address := "203.0.113.2:443"
	if b.port > 0 {
		address = fmt.Sprintf("203.0.113.2:%d", b.port)
	}
	if b.ports > 0 {
		address = fmt.Sprintf("203.0.113.2:%d", 1000+i%b.ports)
	}
	conn, err := net.DialTimeout("tcp", address, 20*time.Second)
	if err != nil {
		return err
	}
	defer conn.Close()
	first := hello
	if b.cut > 0 {
		first = hello[:b.cut]
	}
	if _, err = conn.Write(first); err == nil && b.cut > 0 {
		_, err = conn.Write(hello[b.cut:])
	}
	if err != nil {
		return err
	}
	if _, err := conn.Read(make([]byte, 1)); err != nil {
		return err
	}
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

// many is how often something is done in a soak, and a two hundredth of it else.
func many(n int) int {
	if os.Getenv("WEIR_SOAK") == "" {
		return n / 200
	}
	return n
}

func (w *Watch) claims() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.reader.Counts.Claims
}

// told is how many copies were read or are known to be lost.
func (w *Watch) told() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.reader.Counts.Packets + w.copies.Lost()
}

// settle waits until no more copies come, of which there are some for so many names: it gives up on those that do not
// come after a minute.
func (w *Watch) settle(t *testing.T, want uint64) {
	t.Helper()
	for end := time.Now().Add(time.Minute); w.claims()+w.copies.Lost() < want && time.Now().Before(end); time.Sleep(copyPause) {
	}
	scratch.Eventually(t, "the last copies", func() bool {
		before := w.told()
		time.Sleep(20 * copyPause) // more than the kernel gathers them for
		return before > 0 && w.told() == before
	})
}

func startWatch(t *testing.T, w world, more modes.Watch) *Watch {
	t.Helper()
	more.Resolvers = []string{"203.0.113.2"}
	watched, err := Start(t.Context(), w.ns, modes.Config{Mode: modes.ModeEgress, Watch: more}, capture.Options{}, nil)
	scratch.Must(t, err)
	t.Cleanup(func() { scratch.Must(t, watched.Close(context.Background())) })
	return watched
}

// TestManyHellos: none is missed under load, of one packet or of several, however it is cut.
func TestManyHellos(t *testing.T) {
	long := helloFor(t, named20)
	short := shortHello(t)
	link := func(t *testing.T, w world, args ...string) {
		t.Helper()
		for _, ns := range []*scratch.Namespace{w.pod, w.away} {
			scratch.Must(t, ns.Do(exec.Command("ip", append([]string{"link", "set", "dev", "eth0"}, args...)...).Run))
		}
	}
	own := func(i int) bool { return i%7 == 0 }
	for _, tt := range []struct {
		why   string
		blast blast
		link  []string
	}{
		{"of one packet", blast{connections: many(100_000), workers: 8, hello: short, name: own}, nil},
		{"of two packets, with GSO", blast{connections: many(20_000), workers: 8, hello: long, name: own}, nil},
		{"of two packets, without GSO", blast{connections: many(20_000), workers: 8, hello: long, name: own}, []string{"gso_max_segs", "1"}},
		{"with an MTU of 600", blast{connections: many(20_000), workers: 8, hello: long, name: own}, []string{"mtu", "600"}},
		{"in two writes", blast{connections: many(20_000), workers: 8, hello: long, name: own, cut: 300}, nil},
		{"again from the same ports, without GSO", blast{connections: many(20_000), workers: 8, hello: long, name: own, sources: 3000}, []string{"gso_max_segs", "1"}},
	} {
		t.Run(tt.why, func(t *testing.T) {
			if testing.Short() && tt.link != nil {
				t.Skip("a link of its own: without -short")
			}
			w := newWorld(t, "198.51.100.1/32")
			sink(t, w.away, "203.0.113.2:443", len(tt.blast.hello))
			if tt.link != nil {
				link(t, w, tt.link...)
			}
			if n := tt.blast.sources; n > 0 {
				const first = 32768
				scratch.Must(t, w.pod.Sysctl("net/ipv4/ip_local_port_range", fmt.Sprintf("%d %d", first, first+n-1)))
			}
			watched := startWatch(t, w, modes.Watch{})
			if failed := tt.blast.run(t, w); failed > 0 {
				t.Errorf("%d connections failed", failed)
			}
			want := uint64(tt.blast.connections)
			watched.settle(t, want)
			r, err := watched.Report(t.Context())
			scratch.Must(t, err)
			if got := watched.claims(); got != want || r.Lost+r.Overflow+r.Hellos+r.Incomplete > 0 {
				t.Errorf("%d names of %d ClientHellos of %d bytes: %d lost, %d without room, %+v", got, want, len(tt.blast.hello), r.Lost, r.Hellos, watched.reader.Counts)
			}
			t.Logf("%d names of %d ClientHellos of %d bytes", watched.claims(), want, len(tt.blast.hello))
		})
	}
}

// TestHeadersOneByOne: where rules cannot read what follows a TCP header (before Linux 5.16), they try its lengths, for
// ClientHellos of one packet and of several, and for requests.
func TestHeadersOneByOne(t *testing.T) {
	w := newWorld(t, "198.51.100.1/32")
	environment := &modes.Environment{MTU: 1500, Resolvers: []netip.Addr{netip.MustParseAddr("203.0.113.2")}}
	watched, err := Start(t.Context(), w.ns, modes.Config{Mode: modes.ModeEgress, IPv6: "disabled"}, capture.Options{Environment: environment}, nil)
	scratch.Must(t, err)
	t.Cleanup(func() { scratch.Must(t, watched.Close(context.Background())) })
	short, long := shortHello(t), helloFor(t, named20)
	request := []byte("GET / HTTP/1.1\r\nHost: " + named20 + "\r\n\r\n")
	sink(t, w.away, "203.0.113.2:443", len(short))
	sink(t, w.away, "203.0.113.2:1000", len(long))
	sink(t, w.away, "203.0.113.2:80", len(request))
	want := uint64(0)
	for _, b := range []blast{
		{hello: short},
		{hello: long, ports: 1},
		{hello: long, ports: 1, cut: 700},
		{hello: request, port: 80},
	} {
		b.connections, b.workers, b.name = 100, 4, func(int) bool { return false }
		want += uint64(b.connections)
		if failed := b.run(t, w); failed > 0 {
			t.Errorf("%d connections failed", failed)
		}
		watched.settle(t, want)
		if got := watched.claims(); got != want {
			t.Errorf("%d names of %d, the last of %d bytes: %+v", got, want, len(b.hello), watched.reader.Counts)
		}
	}
	r, err := watched.Report(t.Context())
	scratch.Must(t, err)
	if row := rowOf(r, named20); row.Conns < 100 || r.Lost+r.Overflow+r.Hellos+r.Incomplete > 0 {
		t.Errorf("%+v", r)
	}
}

// shortHello is one without a post-quantum key share.
func shortHello(t *testing.T) []byte {
	t.Helper()
	here, there := net.Pipe()
	defer here.Close()
	go func() {
		_ = tls.Client(there, &tls.Config{ServerName: named20, CurvePreferences: []tls.CurveID{tls.X25519}}).Handshake()
		there.Close()
	}()
	buf := make([]byte, 1<<14)
	n, err := here.Read(buf)
	scratch.Must(t, err)
	return buf[:n]
}

// TestReaderStops: while nothing reads the copies no connection is in want of anything, and what
// was lost is said afterwards.
func TestReaderStops(t *testing.T) {
	w := newWorld(t, "198.51.100.1/32")
	b := blast{connections: many(100_000), workers: 8, hello: helloFor(t, named20), name: func(int) bool { return false }}
	stopped := time.Second / 5
	if many(200) == 200 {
		stopped = 10 * time.Second
	}
	sink(t, w.away, "203.0.113.2:443", len(b.hello))
	watched := startWatch(t, w, modes.Watch{})
	watched.mu.Lock() // the reader stands still with the copy that it has
	began := time.Now()
	failed := int64(0)
	done := 0
	for one := b; time.Since(began) < stopped || done == 0; done += one.connections {
		failed += one.run(t, w)
	}
	watched.mu.Unlock()
	watched.settle(t, 1)
	want := uint64(done)
	scratch.Eventually(t, "the gap is seen by the numbers of later copies", func() bool {
		last := b
		last.connections = 100
		failed += last.run(t, w)
		want += uint64(last.connections)
		watched.settle(t, 1)
		return failed > 0 || watched.claims()+watched.copies.Lost() >= want
	})
	r, err := watched.Report(t.Context())
	scratch.Must(t, err)
	t.Logf("%d connections in %s, %d failed; %d names, %d copies lost", want, time.Since(began).Round(time.Second), failed, watched.claims(), r.Lost)
	if failed > 0 || watched.claims()+r.Lost != want {
		t.Errorf("%d connections, %d failed; %d names and %d copies lost", want, failed, watched.claims(), r.Lost)
	}
	if row := rowOf(r, named20); row.Conns < want-uint64(failed) {
		t.Errorf("connections are counted by sets, whatever the reader does: %+v", row)
	}
}

// TestSetsFull: what has no room is counted as such, and passes.
func TestSetsFull(t *testing.T) {
	w := newWorld(t, "198.51.100.1/32")
	const ports = 100
	b := blast{connections: 400, workers: 4, hello: helloFor(t, named20), name: func(int) bool { return false }, ports: ports}
	for i := range ports {
		sink(t, w.away, fmt.Sprintf("203.0.113.2:%d", 1000+i), len(b.hello))
	}
	watched := startWatch(t, w, modes.Watch{Size: "16"})
	if failed := b.run(t, w); failed > 0 {
		t.Errorf("%d connections failed", failed)
	}
	r, err := watched.Report(t.Context())
	scratch.Must(t, err)
	if len(r.Rows) > 16 || r.Overflow < 400*(ports-16)/ports || !strings.Contains(strings.Join(r.Notes(), "\n"), "a set is full") {
		t.Errorf("%d rows, %d packets without room, %q", len(r.Rows), r.Overflow, r.Notes())
	}
}

// TestRandomNames: a client that makes up names costs bounded memory, and those that had no room are counted.
func TestRandomNames(t *testing.T) {
	w := newWorld(t, "198.51.100.1/32")
	b := blast{connections: max(many(100_000), 2*maxNames), workers: 8, hello: shortHello(t), name: func(int) bool { return true }}
	sink(t, w.away, "203.0.113.2:443", len(b.hello))
	watched := startWatch(t, w, modes.Watch{})
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	if failed := b.run(t, w); failed > 0 {
		t.Errorf("%d connections failed", failed)
	}
	watched.settle(t, uint64(b.connections))
	for range maxMissed + 1 {
		_, err := watched.Report(t.Context())
		scratch.Must(t, err)
	}
	r, err := watched.Report(t.Context())
	scratch.Must(t, err)
	grown := int64(heap()) - int64(before)
	t.Logf("%d names, %d lost, %d without room: %d rows, %d names, %d flows, %d shares, %d kB of heap more", b.connections, r.Lost, r.Others, len(r.Rows), len(watched.book.names),
		len(watched.shared.flows), len(watched.shared.shares), grown>>10)
	const rest = 2 // rows: of other names, and of the address
	if len(watched.book.names) > maxNames || len(r.Rows) > maxNames+rest || grown > 32<<20 || len(watched.shared.flows) > 0 || len(watched.shared.shares) > maxNames+1 {
		t.Errorf("%d names, %d rows, %d flows, %d shares, %d bytes", len(watched.book.names), len(r.Rows), len(watched.shared.flows), len(watched.shared.shares), grown)
	}
	if r.Others+r.Lost < uint64(b.connections-maxNames) || !strings.Contains(strings.Join(r.Notes(), "\n"), "names that had no room") {
		t.Errorf("%d names, %d without room, %q", b.connections, r.Others, r.Notes())
	}
}
