// SPDX-License-Identifier: Apache-2.0

//go:build linux

package proxy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
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

// Relay carries data both ways until both streams have ended, and closes both connections. The end of
// one stream is passed on at once, and the other one stays open for as long as it likes. The data
// stays in the kernel (splice(2)). An idle time of zero is [DefaultIdleTimeout].
//
// What ends it early is its error, and resets both connections: ctx, a reset by either peer, or
// [ErrIdle] once neither has sent anything for the time of idle.
func Relay(ctx context.Context, client, upstream *net.TCPConn, idle time.Duration) (Bytes, error) {
	defer client.Close()
	defer upstream.Close()
	idle = cmp.Or(idle, DefaultIdleTimeout)
	var carried Bytes
	done := make(chan error, 2)
	direction := func(dst, src *net.TCPConn, n *int64) {
		var err error
		*n, err = pipe(dst, src)
		done <- err
	}
	go direction(upstream, client, &carried.FromClient)
	go direction(client, upstream, &carried.FromUpstream)
	timer := time.NewTimer(idle)
	defer timer.Stop()

	for running := 2; running > 0; {
		var err error
		select {
		case err = <-done:
			running--
		case <-ctx.Done():
			err = context.Cause(ctx)
		case <-timer.C:
			var left time.Duration
			if left, err = idleLeft(idle, client, upstream); err == nil {
				timer.Reset(left)
			}
		}
		if err != nil {
			reset(client)
			reset(upstream)
			for ; running > 0; running-- {
				<-done
			}
			return carried, fmt.Errorf("proxy: %w", err)
		}
	}
	return carried, nil
}

// pipe copies one direction and passes on its end, and nothing but its end: the other direction may
// go on for as long as it likes.
func pipe(dst, src *net.TCPConn) (int64, error) {
	// Between two TCP connections io.Copy is splice(2): the data stays in the kernel.
	n, err := io.Copy(dst, src)
	if err != nil {
		return n, err
	}
	// A peer that has already gone cannot be told; if it left too early, the other direction
	// knows.
	if err := dst.CloseWrite(); !errors.Is(err, unix.ENOTCONN) {
		return n, err
	}
	return n, nil
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
