// SPDX-License-Identifier: Apache-2.0

//go:build linux

package proxy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// ErrIdle means that a connection or a flow was ended because it carried no data for too long.
var ErrIdle = errors.New("idle for too long")

// Bytes counts what a connection carried: what was written to the other side. Of a connection that
// was reset, some may not have arrived.
type Bytes struct {
	FromClient   int64
	FromUpstream int64
}

// keepAliveAfter is how old connections are before TCP probes whether their peers are still there:
// most end sooner, and need not pay for it.
const keepAliveAfter = 15 * time.Second

// Relay carries data both ways until both streams have ended, and closes both connections. The end of
// one stream is passed on at once, and the other one stays open for as long as it likes. All but the
// first kilobytes of a stream stays in the kernel (splice(2)). An idle time of zero is
// [DefaultIdleTimeout]. After 15 seconds both connections have TCP keepalive.
//
// What ends it early is its error, and resets both connections: ctx, a reset by either peer, or
// [ErrIdle] once neither has sent anything for the time of idle.
func Relay(ctx context.Context, client, upstream *net.TCPConn, idle time.Duration) (Bytes, error) {
	beside := newBeside()
	defer beside.end()
	return relayBy(ctx, client, upstream, idle, newBuffers(streamBuffer), beside)
}

// relayBy is Relay with buffers for the first bytes and a goroutine for the second stream.
func relayBy(ctx context.Context, client, upstream *net.TCPConn, idle time.Duration, buffers *sync.Pool, beside *beside) (Bytes, error) {
	defer client.Close()
	defer upstream.Close()
	r := &relay{client: client, upstream: upstream, idle: cmp.Or(idle, DefaultIdleTimeout), buffers: buffers}
	defer context.AfterFunc(ctx, func() { r.fail(context.Cause(ctx)) })()
	r.start(min(keepAliveAfter, r.idle), r.keepAlive)
	defer r.stop()
	beside.run(func() { r.pipe(client, upstream, &r.carried.FromUpstream) })
	r.pipe(upstream, client, &r.carried.FromClient)
	beside.wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil {
		return r.carried, fmt.Errorf("proxy: %w", r.err)
	}
	return r.carried, nil
}

// relay is two connections of which each has what the other sends.
type relay struct {
	client, upstream *net.TCPConn
	idle             time.Duration
	buffers          *sync.Pool
	carried          Bytes
	ended            atomic.Int32 // streams

	mu    sync.Mutex
	err   error // the first
	timer *time.Timer
	over  bool // the timer is not to be set again
}

// fail ends both connections early.
func (r *relay) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil {
		r.err = err
		reset(r.client)
		reset(r.upstream)
	}
}

// keepAlive is called once the connections are of some age, and then looks whether they are idle.
func (r *relay) keepAlive() {
	for _, conn := range []*net.TCPConn{r.client, r.upstream} {
		_ = conn.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true}) // as Go has it; fails where the connection is closed
	}
	r.look()
}

// look ends connections that are idle, and looks again when they may be.
func (r *relay) look() {
	left, err := idleLeft(r.idle, r.client, r.upstream)
	if err != nil {
		r.fail(err)
		return
	}
	r.start(left, r.look)
}

// start sets the timer, until stop.
func (r *relay) start(after time.Duration, then func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.over {
		r.timer = time.AfterFunc(after, then)
	}
}

func (r *relay) stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.over = true
	r.timer.Stop()
}

// pipe copies one direction and passes on its end, and nothing but its end: the other direction may
// go on for as long as it likes.
func (r *relay) pipe(dst, src *net.TCPConn, n *int64) {
	var err error
	if *n, err = copyStream(dst, src, r.buffers); err != nil {
		r.fail(err)
		return
	}
	if r.ended.Add(1) == 2 {
		return // both are closed at once, which tells dst as much
	}
	// A peer that has already gone cannot be told; if it left too early, the other direction
	// knows.
	if err := dst.CloseWrite(); err != nil && !errors.Is(err, unix.ENOTCONN) {
		r.fail(err)
	}
}

// reset closes conn so that its peer sees a reset in place of an end of stream.
func reset(conn *net.TCPConn) {
	// Neither can fail in a way that leaves anything to be done.
	_ = conn.SetLinger(0)
	_ = conn.Close()
}

// idleLeft is how much of idle is left since data last moved on any of conns, or ErrIdle.
func idleLeft(idle time.Duration, conns ...*net.TCPConn) (time.Duration, error) {
	left := time.Duration(0)
	for _, conn := range conns {
		quiet, err := quiet(conn)
		if err != nil {
			return 0, err
		}
		left = max(left, idle-quiet)
	}
	if left == 0 {
		return 0, fmt.Errorf("%w: no data for %s", ErrIdle, idle)
	}
	return left, nil
}

// quiet is how long ago data was last sent or received on conn, to the kernel's clock tick. The
// kernel keeps count in TCP_INFO (tcp(7)), so that the copying need not.
func quiet(conn *net.TCPConn) (time.Duration, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	var info *unix.TCPInfo
	var sockErr error
	if err := raw.Control(func(fd uintptr) {
		info, sockErr = unix.GetsockoptTCPInfo(int(fd), unix.SOL_TCP, unix.TCP_INFO)
	}); err != nil {
		return 0, err
	}
	if sockErr != nil {
		return 0, os.NewSyscallError("getsockopt", sockErr)
	}
	return time.Duration(min(info.Last_data_sent, info.Last_data_recv)) * time.Millisecond, nil
}
