// Package nl is netlink as the kernel's own subsystems speak it: requests, their
// answers and dumps, over a blocking socket. It knows nothing of what the
// messages mean.
//
// A dump is read in parts as large as a kernel makes them, for it finds the
// place where a part begins by walking from the start: small parts cost by the
// square of their number.
package nl

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

const (
	// PartTimeout is how long one part of an answer may take. The kernel makes it
	// while it is asked, so that none is ever waited for.
	PartTimeout = 10 * time.Second

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

// Socket is a netlink socket. One goroutine at a time may use it.
type Socket struct {
	// Asked is told of each request, unless it is nil: what a verb costs is what it
	// asks for.
	Asked func(netlink.Message)

	fd       int
	seq      uint32
	part     []byte
	limit    int  // bytes that may still be received, 0 for any number
	over     bool // they were
	halfRead bool // a dump was given up: the kernel begins no other before its end
}

// Open opens a socket of each protocol in the calling thread's network namespace
// or, where netns is not 0, in the one that the file descriptor names.
func Open(netns int, protocols ...int) (sockets []*Socket, err error) {
	open := func() {
		for _, p := range protocols {
			var s *Socket
			if s, err = open(p); err != nil {
				err = errors.Join(err, Close(sockets...))
				return
			}
			sockets = append(sockets, s)
		}
	}
	if netns == 0 {
		open()
		return sockets, err
	}
	if entered := inside(netns, open); entered != nil {
		return nil, entered
	}
	return sockets, err
}

// Close closes sockets.
func Close(sockets ...*Socket) error {
	var errs []error
	for _, s := range sockets {
		errs = append(errs, os.NewSyscallError("close", unix.Close(s.fd)))
	}
	return errors.Join(errs...)
}

func open(protocol int) (*Socket, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	s := &Socket{fd: fd}
	wait := unix.NsecToTimeval(int64(PartTimeout))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait); err != nil {
		return nil, errors.Join(os.NewSyscallError("setsockopt", err), Close(s))
	}
	return s, nil
}

// inside calls do in a network namespace. The thread goes back to its own or, if
// it cannot, dies with its goroutine.
func inside(netns int, do func()) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		own, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			defer unix.Close(own)
		}
		if entered := unix.Setns(netns, unix.CLONE_NEWNET); entered != nil {
			runtime.UnlockOSThread()
			done <- os.NewSyscallError("setns", entered)
			return
		}
		do()
		if err == nil && unix.Setns(own, unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
		done <- nil
	}()
	return <-done
}

// SetOption switches a socket option of SOL_NETLINK on.
func (s *Socket) SetOption(option int) error {
	return os.NewSyscallError("setsockopt", unix.SetsockoptInt(s.fd, unix.SOL_NETLINK, option, 1))
}

// GrowSendBuffer makes room for a message of that many bytes, which must go out
// in one piece. Without CAP_NET_ADMIN in the initial user namespace the limit of
// net.core.wmem_max stays.
func (s *Socket) GrowSendBuffer(size int) error {
	have, err := unix.GetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_SNDBUF)
	if err == nil && size >= have/2 {
		if err = unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, size); errors.Is(err, unix.EPERM) {
			err = unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_SNDBUF, size)
		}
	}
	if err != nil {
		return fmt.Errorf("netlink: a send buffer of %d bytes: %w", size, err)
	}
	return nil
}

// Limit bounds how many bytes the socket receives from now on, however often it is
// asked: who reads what others made bounds the work.
func (s *Socket) Limit(bytes int) { s.limit, s.over = bytes, false }

// Send sends messages in one piece, as they are.
func (s *Socket) Send(messages []byte) error {
	for {
		_, err := unix.Write(s.fd, messages)
		if err == unix.EINTR {
			continue
		}
		return opError("send", err)
	}
}

// Sequence sets numbers aside for so many messages, and is the first of them.
func (s *Socket) Sequence(messages int) uint32 {
	first := s.seq + 1
	s.seq += uint32(messages)
	return first
}

// Execute sends one request and visits the messages that answer it, whose data
// holds until the visit ends. With [netlink.Acknowledge] it may ask for any number
// of messages, with [netlink.Dump] too, else for one.
//
// An error of the kernel's is a [*netlink.OpError]. That of a dump which somebody's
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

// Receive is the next part of any answer; it holds until the next is received.
// Of flags, MSG_DONTWAIT takes only what is there.
func (s *Socket) Receive(flags int) ([]byte, error) {
	if s.part == nil {
		s.part = make([]byte, partSize)
	}
	for start := time.Now(); time.Since(start) < PartTimeout; {
		n, from, err := unix.Recvfrom(s.fd, s.part, flags|unix.MSG_TRUNC)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			return nil, opError("receive", os.ErrDeadlineExceeded)
		case err != nil:
			return nil, opError("receive", err)
		}
		if s.limit > 0 {
			s.limit -= n
			s.over = s.limit <= 0
		}
		if s.over {
			s.limit = 0
			return nil, ErrLimit
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

func opError(op string, err error) error {
	if err == nil {
		return nil
	}
	return &netlink.OpError{Op: op, Err: err}
}

// Sibling opens a socket of a protocol in the network namespace that s is in.
func (s *Socket) Sibling(protocol int) (*Socket, error) {
	theirs, err := s.namespace()
	if err != nil {
		return nil, err
	}
	defer unix.Close(theirs)
	here, err := open(protocol)
	if err != nil {
		return nil, err
	}
	own, err := here.namespace()
	if err == nil {
		defer unix.Close(own)
		if sameFile(own, theirs) {
			return here, nil
		}
	}
	if err := Close(here); err != nil {
		return nil, err
	}
	sockets, err := Open(theirs, protocol)
	if err != nil {
		return nil, err
	}
	return sockets[0], nil
}

// Inside calls do on a thread in the network namespace that s is in.
func (s *Socket) Inside(do func()) error {
	fd, err := s.namespace()
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if own, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0); err == nil {
		defer unix.Close(own)
		if sameFile(own, fd) {
			do()
			return nil
		}
	}
	return inside(fd, do)
}

// namespace is a descriptor of the socket's network namespace. It takes
// CAP_NET_ADMIN there.
func (s *Socket) namespace() (int, error) {
	const siocgskns = 0x894c // SIOCGSKNS of linux/sockios.h
	fd, err := unix.IoctlRetInt(s.fd, siocgskns)
	return fd, os.NewSyscallError("ioctl", err)
}

func sameFile(a, b int) bool {
	var x, y unix.Stat_t
	return unix.Fstat(a, &x) == nil && unix.Fstat(b, &y) == nil && x.Dev == y.Dev && x.Ino == y.Ino
}

// Port is the socket's port id, by which the kernel names who sent a message.
func (s *Socket) Port() (uint32, error) {
	address, err := unix.Getsockname(s.fd)
	if err != nil {
		return 0, os.NewSyscallError("getsockname", err)
	}
	own, ok := address.(*unix.SockaddrNetlink)
	if !ok {
		return 0, errors.New("netlink: the socket has no port")
	}
	return own.Pid, nil
}

// Join has the socket receive what a group is told, with room for as many bytes
// of it as the system allows, up to room.
func (s *Socket) Join(group, room int) error {
	if err := unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, room); err != nil {
		if err := unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_RCVBUF, room); err != nil {
			return os.NewSyscallError("setsockopt", err)
		}
	}
	return os.NewSyscallError("setsockopt", unix.SetsockoptInt(s.fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, group))
}
