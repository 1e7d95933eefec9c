// SPDX-License-Identifier: Apache-2.0

//go:build linux

package watch

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"net/netip"
	"runtime"
	"runtime/debug"
	"testing"
	"time"

	"github.com/weir-mesh/weir/capture"
	"github.com/weir-mesh/weir/internal/bench/paired"
	"github.com/weir-mesh/weir/internal/scratch"
	"github.com/weir-mesh/weir/modes"
	"golang.org/x/sys/unix"
)

const (
	costRounds = 15
	costPairs  = 600 // handshakes of a round, in each of the ways
	costBulk   = 4 << 20
	bulkPairs  = 6
)

// BenchmarkCost is the processor time of a TCP connection with a TLS handshake, and of a GB received,
// where nothing is watched, where packets are counted, and where names are copied besides. Both ends run
// on one thread, whose time is read before and after: neither the collector nor the reader of copies nor
// another program is in it. The ways take turns connection by connection, which is first alternates, and
// a round has the median of its connections.
func BenchmarkCost(b *testing.B) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	names := []string{"nothing", "counting", "names"}
	certificate := selfSigned(b)
	var ways []*pair
	for _, name := range names {
		ways = append(ways, newPair(b, name, certificate))
	}
	for b.Loop() {
		conns, bulks := make([][]float64, len(ways)), make([][]float64, len(ways))
		for round := range costRounds + 1 {
			runtime.GC()
			shakes := inTurns(b, ways, costPairs, 0)
			runtime.GC()
			bytes := inTurns(b, ways, bulkPairs, costBulk)
			for i := range ways {
				if round > 0 { // the first one warms up
					conns[i], bulks[i] = append(conns[i], shakes[i]), append(bulks[i], (bytes[i]-shakes[i])/costBulk)
				}
			}
		}
		for i, name := range names {
			b.Logf("%-9s %6.1f us a connection, %s of nothing; %5.3f s a GB, %s", name, paired.Median(conns[i])/1e3, paired.Ratio(conns[i], conns[0]),
				paired.Median(bulks[i]), paired.Ratio(bulks[i], bulks[0]))
		}
	}
}

// inTurns calls by each of the ways, one after the other, and returns the median nanoseconds of each.
func inTurns(b *testing.B, ways []*pair, times, size int) []float64 {
	b.Helper()
	took := make([][]float64, len(ways))
	for turn := range times {
		for i := range ways {
			at := (i + turn) % len(ways)
			if turn/len(ways)%2 == 1 {
				at = len(ways) - 1 - at
			}
			took[at] = append(took[at], ways[at].call(b, size))
		}
	}
	out := make([]float64, len(ways))
	for i := range ways {
		out[i] = paired.Median(took[i])
	}
	return out
}

// pair is a pod and a host whose two ends of a connection run on the thread of the test.
type pair struct {
	world    world
	listener int
	server   *tls.Config
	client   *tls.Config
	zeros    []byte
}

func newPair(b *testing.B, way string, certificate tls.Certificate) *pair {
	b.Helper()
	p := &pair{world: newWorldFor(b, "198.51.100.1/32"), listener: -1, zeros: make([]byte, 64<<10),
		server: &tls.Config{Certificates: []tls.Certificate{certificate}, SessionTicketsDisabled: true},
		client: &tls.Config{ServerName: "bench.example", InsecureSkipVerify: true}}
	scratch.Must(b, p.world.away.Do(func() (err error) {
		if p.listener, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		return errors.Join(unix.Bind(p.listener, &unix.SockaddrInet4{Port: 443, Addr: [4]byte{203, 0, 113, 2}}), unix.Listen(p.listener, 16))
	}))
	b.Cleanup(func() { _ = unix.Close(p.listener) })
	if way == "nothing" {
		return p
	}
	config := modes.Config{Mode: modes.ModeEgress, Watch: modes.Watch{Resolvers: []string{"203.0.113.2"}}}
	if way == "counting" {
		config.Watch.Names = []string{"none"}
	}
	watched, err := Start(b.Context(), p.world.ns, config, capture.Options{}, nil)
	scratch.Must(b, err)
	b.Cleanup(func() { scratch.Must(b, watched.Close(context.Background())) })
	return p
}

// call opens a connection, shakes hands, receives so many bytes and closes it. It returns the nanoseconds
// that the thread took.
func (p *pair) call(b *testing.B, size int) float64 {
	b.Helper()
	var fd int
	scratch.Must(b, p.world.pod.Do(func() (err error) { // a socket stays in the namespace that it was made in
		fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		return err
	}))
	before := threadTime(b)
	err := unix.Connect(fd, &unix.SockaddrInet4{Port: 443, Addr: [4]byte{203, 0, 113, 2}})
	if err != nil && err != unix.EINPROGRESS {
		b.Fatal(err)
	}
	next, stop := iter.Pull(func(yield func(struct{}) bool) { // a coroutine: on the same thread
		scratch.Must(b, p.serve(func() bool { return yield(struct{}{}) }, size))
	})
	defer stop()
	scratch.Must(b, p.receive(&polled{fd: fd, wait: func() bool { _, more := next(); return more || arrives(fd) }}, size))
	for more := true; more; {
		_, more = next()
	}
	return float64(threadTime(b) - before)
}

// arrives waits for what an end that has left has sent before.
func arrives(fd int) bool {
	const milliseconds = 1000
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, milliseconds)
	return n > 0 && err == nil
}

func (p *pair) serve(wait func() bool, size int) error {
	fd, err := -1, error(unix.EAGAIN)
	for err == unix.EAGAIN {
		if fd, _, err = unix.Accept4(p.listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC); err == unix.EAGAIN && !wait() {
			return errLeft
		}
	}
	if err != nil {
		return err
	}
	conn := tls.Server(&polled{fd: fd, wait: wait}, p.server)
	defer conn.Close()
	if err := conn.Handshake(); err != nil {
		return fmt.Errorf("server: %w", err)
	}
	for left := size; left > 0; left -= len(p.zeros) {
		if _, err := conn.Write(p.zeros[:min(left, len(p.zeros))]); err != nil {
			return err
		}
	}
	return nil
}

func (p *pair) receive(under net.Conn, size int) error {
	conn := tls.Client(under, p.client)
	defer conn.Close()
	if err := conn.Handshake(); err != nil {
		return fmt.Errorf("client: %w", err)
	}
	for buffer := p.zeros; size > 0; {
		n, err := conn.Read(buffer)
		if err != nil {
			return err
		}
		size -= n
	}
	return nil
}

func threadTime(b *testing.B) int64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
		b.Fatal(err)
	}
	return t.Nano()
}

// polled is a connection that waits by letting the other end run.
type polled struct {
	fd   int
	wait func() bool // false: the other end has left
}

var errLeft = errors.New("the other end has left")

func (c *polled) Read(b []byte) (int, error) {
	return c.retry(func() (int, error) { return unix.Read(c.fd, b) })
}

func (c *polled) Write(b []byte) (written int, err error) {
	for written < len(b) && err == nil {
		n := 0
		n, err = c.retry(func() (int, error) { return unix.Write(c.fd, b[written:]) })
		written += max(n, 0)
	}
	return written, err
}

func (c *polled) retry(do func() (int, error)) (int, error) {
	for {
		n, err := do()
		switch {
		case err == nil && n == 0:
			return 0, io.EOF
		case err != unix.EAGAIN && err != unix.ENOTCONN:
			return n, err
		case !c.wait():
			return 0, errLeft
		}
	}
}

func (c *polled) Close() error                     { return unix.Close(c.fd) }
func (c *polled) LocalAddr() net.Addr              { return net.TCPAddrFromAddrPort(netip.AddrPort{}) }
func (c *polled) RemoteAddr() net.Addr             { return net.TCPAddrFromAddrPort(netip.AddrPort{}) }
func (c *polled) SetDeadline(time.Time) error      { return nil }
func (c *polled) SetReadDeadline(time.Time) error  { return nil }
func (c *polled) SetWriteDeadline(time.Time) error { return nil }
