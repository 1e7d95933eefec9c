// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nl

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

const (
	// partTimeout is how long one part of an answer may take. The kernel makes it
	// while it is asked, so that none is ever waited for.
	partTimeout = 10 * time.Second

	// partSize is room for one part. Kernels make them of up to 32 KiB, if they see
	// that much room; few objects, such as a link of many functions, take more.
	partSize    = 64 << 10
	maxPartSize = 4 << 20
)

// ErrTruncated means that a part was larger than the room for it and is lost.
// There is more room then: to ask again helps.
var ErrTruncated = errors.New("netlink: an answer did not fit")

// ErrLimit means that more was to be received than [Socket.Limit] allows.
var ErrLimit = errors.New("netlink: the answers are longer than is read of them")

// Execute sends one request and visits the messages that answer it, whose data
// holds until the visit ends. With [netlink.Acknowledge] it may ask for any number
// of messages, with [netlink.Dump] too, else for one.
//
// An error of the kernel's is a [*netlink.OpError]. That of a dump which another's
// change interrupted is EINTR; its messages were visited all the same. Where the
// context ends or a visit fails, the rest of the answer is passed over by the next
// request.
func (s *Socket) Execute(ctx context.Context, m netlink.Message, visit func(netlink.Message) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	isDump := m.Header.Flags&netlink.Dump == netlink.Dump
	if isDump && s.halfRead {
		if err := s.drain(ctx); err != nil {
			return err
		}
	}
	if s.Asked != nil {
		s.Asked(m)
	}
	m.Header.Sequence = s.Sequence(1)
	if err := s.Send(AppendMessage(nil, m.Header, m.Data)); err != nil {
		return err
	}
	s.halfRead = s.halfRead || isDump
	a := answer{sequence: m.Header.Sequence, multi: m.Header.Flags&netlink.Acknowledge != 0 || isDump, visit: visit}
	err := s.answers(ctx, &a)
	if a.ended && isDump {
		s.halfRead = false
	}
	return err
}

// answers receives until the answer ends.
func (s *Socket) answers(ctx context.Context, a *answer) error {
	for {
		part, err := s.Receive(0)
		if err != nil {
			return err
		}
		if err := a.read(part); err != nil || a.ended {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// drain passes over what is left of a dump that was given up.
func (s *Socket) drain(ctx context.Context) error {
	for {
		_, err := s.Receive(unix.MSG_DONTWAIT)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			s.halfRead = false
			return nil // nothing is left
		case errors.Is(err, unix.ENOBUFS), errors.Is(err, ErrTruncated):
			continue // and the dump goes on
		case err != nil:
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// count takes received bytes off the limit.
func (s *Socket) count(received int) error {
	if s.limit > 0 {
		s.limit -= received
		s.over = s.limit <= 0
	}
	if s.over {
		s.limit = 0
		return ErrLimit
	}
	return nil
}

// Receive is the next part of any answer; it holds until the next is received.
// Of flags, MSG_DONTWAIT takes only what is there.
func (s *Socket) Receive(flags int) ([]byte, error) {
	if s.part == nil {
		s.part = make([]byte, partSize)
	}
	for start := time.Now(); time.Since(start) < partTimeout; {
		n, from, err := unix.Recvfrom(s.fd, s.part, flags|unix.MSG_TRUNC)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			return nil, opError("receive", os.ErrDeadlineExceeded)
		case err != nil:
			return nil, opError("receive", err)
		}
		if err := s.count(n); err != nil {
			return nil, err
		}
		if sender, ok := from.(*unix.SockaddrNetlink); !ok || sender.Pid != 0 {
			continue // another program's, which may send them without end
		}
		if n > len(s.part) {
			if n > maxPartSize {
				return nil, fmt.Errorf("netlink: an answer has %d bytes, more than the %d that are read", n, maxPartSize)
			}
			s.part = make([]byte, 2*n)
			return nil, ErrTruncated
		}
		return s.part[:n], nil
	}
	return nil, opError("receive", os.ErrDeadlineExceeded)
}
