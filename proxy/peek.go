// SPDX-License-Identifier: Apache-2.0

//go:build linux

package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Peek shows look the first bytes that the client sends, and leaves them in the connection for
// the next reader. look is called at once with what is there, perhaps nothing, and again with
// all of it each time that more has come. The waiting ends without an error when look returns true,
// when there are limit bytes, or when the client has ended its stream; else with the cause of ctx's
// end or the error of the connection.
//
// A client that waits for the server to speak sends nothing: give ctx a deadline, and carry on where
// it has passed. Peek replaces the connection's read deadline and leaves it with none. It must not
// run while something else reads. The bytes are valid until look returns.
func (c *Conn) Peek(ctx context.Context, limit int, look func(first []byte) (enough bool)) error {
	if err := peek(ctx, c.TCPConn, time.Time{}, make([]byte, limit), look); err != nil {
		return fmt.Errorf("proxy: peek: %w", err)
	}
	return nil
}

// peek is Peek into a buffer, with a time at which it ends with [os.ErrDeadlineExceeded] if there is one.
func peek(ctx context.Context, conn *net.TCPConn, until time.Time, buffer []byte, look func([]byte) bool) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	waits := false
	var ended chan struct{}
	cancel := func() bool { return true }
	defer func() {
		if !cancel() {
			<-ended // else its deadline could come after the one below
		}
		if waits {
			_ = conn.SetReadDeadline(time.Time{})
		}
	}()

	for shown := -1; ; {
		seen, last, sockErr := 0, false, error(nil)
		err := raw.Read(func(fd uintptr) bool {
			seen, last, sockErr = peekOnce(int(fd), buffer)
			if seen == shown && seen > 0 && !last {
				last = streamEnded(int(fd))
			}
			return seen > shown || last || sockErr != nil
		})
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			return err
		case sockErr != nil:
			return os.NewSyscallError("recv", sockErr)
		}
		if seen > shown && look(buffer[:seen]) || last {
			return nil
		}
		shown = seen
		if waits {
			continue
		}
		waits = true // from here on: what is there at once needs no deadline
		if !until.IsZero() {
			_ = conn.SetReadDeadline(until)
		}
		ended = make(chan struct{})
		cancel = context.AfterFunc(ctx, func() {
			defer close(ended)
			_ = conn.SetReadDeadline(time.Unix(1, 0))
		})
	}
}

// peekOnce reads what there is without taking it, and reports whether no more can follow.
func peekOnce(fd int, buffer []byte) (n int, last bool, err error) {
	n, _, err = unix.Recvfrom(fd, buffer, unix.MSG_PEEK)
	switch {
	case err == unix.EAGAIN, err == unix.EINTR:
		return 0, false, nil // RawConn's descriptors are non-blocking
	case err != nil:
		return 0, false, err
	case n == len(buffer) || n == 0:
		return n, true, nil
	}
	return n, false, nil
}

// streamEnded reports whether the client has ended its stream, which cannot be read before the bytes are taken.
func streamEnded(fd int) bool {
	poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
	_, _ = unix.Poll(poll, 0) // a failure tells nothing, as does a stream that goes on
	return poll[0].Revents&unix.POLLRDHUP != 0
}
