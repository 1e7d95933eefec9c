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
	"time"

	"golang.org/x/sys/unix"
)

// The limits of a [Server] whose fields are zero.
const (
	DefaultMaxConns    = 1024
	DefaultDialTimeout = 10 * time.Second
	DefaultIdleTimeout = time.Hour
	DefaultPeekBytes   = 16 << 10
	DefaultPeekTimeout = 300 * time.Millisecond
)

// A listener that finds no file descriptor or no memory waits for connections to end.
const (
	acceptPause    = 50 * time.Millisecond
	acceptPatience = time.Minute
)

// maxSpare is how many goroutines wait for the next connection at most.
const maxSpare = 64

// Server accepts connections and carries each to its original destination. The zero value is ready
// to use. A Server is never changed by its methods, and may serve several listeners at once.
//
// The rules that divert connections to it must let its own pass, which they can tell by
// [Dialer.Mark] or by the user that the proxy runs as. Where they divert those as well, each
// connection causes another, and only MaxConns ends that.
type Server struct {
	// Dial makes the onward connection; nil is [Dialer.Dial] of the zero Dialer. It may be
	// called by several goroutines at once, and must return soon after ctx is done.
	Dial func(ctx context.Context, c ConnInfo) (*net.TCPConn, error)

	// MaxConns is how many connections each listener has open at most; further ones wait in
	// its backlog. Zero is DefaultMaxConns.
	MaxConns int

	// Peek, if set, looks at the first bytes that the client sends, before Dial is called: for the
	// name in a TLS ClientHello, say. They stay in the connection, and go upstream with the rest. It
	// is first called with none, before any wait, and then with all of them each time that more have
	// come, until it wants no more, there are PeekBytes of them, the client has ended its stream, or
	// PeekTimeout is over. What it found last is in ConnInfo.Peeked for Dial and OnClose. The bytes
	// are valid until it returns.
	//
	// Where the server speaks first, the client sends nothing, and the connection is held up for
	// PeekTimeout: want no more at the first call where c tells that the protocol is such a one.
	// Peek may be called by several goroutines at once, each for a connection of its own.
	Peek func(c ConnInfo, first []byte) (found any, more bool)

	// PeekBytes is how many bytes Peek is shown at most. Zero is DefaultPeekBytes.
	PeekBytes int

	// PeekTimeout is how long Peek is given more. Zero is DefaultPeekTimeout.
	PeekTimeout time.Duration

	// Handle, if set, may serve a connection itself, after Peek and in place of Dial. It returns once the connection
	// is closed, or false at once where it is to be carried on. It must return soon after ctx is done, and may be
	// called by several goroutines at once. OnClose then has the bytes and the error that it returns.
	Handle func(ctx context.Context, c *Conn) (handled bool, carried Bytes, err error)

	// DialTimeout is how long Dial may take. Zero is DefaultDialTimeout.
	DialTimeout time.Duration

	// IdleTimeout is how long a connection may carry no data in either direction before it is
	// ended with [ErrIdle]. Zero is DefaultIdleTimeout.
	IdleTimeout time.Duration

	// OnAccept, if set, is told of each connection once its original destination is known and
	// before it is carried on. Like OnClose it may be called by several goroutines at once,
	// and holds up the connection until it returns.
	OnAccept func(c ConnInfo)

	// OnClose, if set, is told of each connection that has ended, once its sockets are closed.
	// err is nil where both sides ended their stream in good order. OriginalDst is zero where
	// it could not be found out, and OnAccept was not called.
	OnClose func(c ConnInfo, carried Bytes, err error)
}

// Serve accepts connections from ln until ctx is done, and then returns nil; or until ln fails,
// which is the error. Either way it first closes ln, ends every connection, and waits for all of
// them. A lack of file descriptors or memory is waited out for a minute.
//
// A connection that does not end in good order (a failed dial, a reset, idleness, the end of ctx)
// is reset on both sides, so that neither peer takes half a stream for the whole.
func (s *Server) Serve(ctx context.Context, ln *Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	var conns sync.WaitGroup
	defer conns.Wait()
	defer cancel()
	defer ln.Close()
	// Close is left to Serve alone: a second one would return before the first is through.
	defer context.AfterFunc(ctx, func() { _ = ln.SetDeadline(time.Unix(1, 0)) })()
	if min(s.MaxConns, s.PeekBytes) < 0 || min(s.PeekTimeout, s.DialTimeout, s.IdleTimeout) < 0 {
		return fmt.Errorf("proxy: serve: MaxConns %d, PeekBytes %d, PeekTimeout %s, DialTimeout %s, IdleTimeout %s: none may be negative",
			s.MaxConns, s.PeekBytes, s.PeekTimeout, s.DialTimeout, s.IdleTimeout)
	}

	slots := make(chan struct{}, cmp.Or(s.MaxConns, DefaultMaxConns))
	buffers := newBuffers(max(s.peekBytes(), streamBuffer))
	carry := func(client *net.TCPConn, beside *beside) {
		defer func() { <-slots }()
		conn := ln.conn(client)
		carried, err := s.carry(ctx, conn, buffers, beside)
		if s.OnClose != nil {
			s.OnClose(conn.ConnInfo, carried, err)
		}
	}
	// Goroutines stay for a while, for the stack of a new one grows several times in a connection.
	next, spare := make(chan *net.TCPConn), make(chan struct{}, maxSpare)
	defer close(next)
	serve := func(client *net.TCPConn) {
		beside := newBeside()
		defer beside.end()
		for more := true; more; {
			carry(client, beside)
			select {
			case spare <- struct{}{}:
				client, more = <-next
				<-spare
			default:
				return
			}
		}
	}
	for {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		client, err := accept(ctx, ln.TCPListener)
		if ctx.Err() != nil {
			if err == nil {
				reset(client)
			}
			return nil
		}
		if err != nil {
			return fmt.Errorf("proxy: %w", err)
		}
		select {
		case next <- client: // to a goroutine that waits
		default:
			conns.Go(func() { serve(client) })
		}
	}
}

func accept(ctx context.Context, ln *net.TCPListener) (*net.TCPConn, error) {
	for waited := time.Duration(0); ; waited += acceptPause {
		conn, err := ln.AcceptTCP()
		if err == nil || !exhausted(err) || waited >= acceptPatience {
			return conn, err
		}
		select {
		case <-time.After(acceptPause):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func exhausted(err error) bool {
	return errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) ||
		errors.Is(err, unix.ENOBUFS) || errors.Is(err, unix.ENOMEM)
}

// carry closes client. It fills in the original destination and what was peeked.
func (s *Server) carry(ctx context.Context, client *Conn, buffers *sync.Pool, beside *beside) (carried Bytes, err error) {
	defer func() {
		if err != nil {
			client.Reset() // closed already where it was relayed
		}
	}()
	if client.OriginalDst, err = OriginalDst(client.TCPConn); err != nil {
		return Bytes{}, err
	}
	if s.OnAccept != nil {
		s.OnAccept(client.ConnInfo)
	}
	if err := s.peek(ctx, client, buffers); err != nil {
		return Bytes{}, err
	}
	if s.Handle != nil {
		if handled, carried, err := s.Handle(ctx, client); handled {
			return carried, err
		}
	}
	upstream, err := s.dial(ctx, client.ConnInfo)
	if err != nil {
		return Bytes{}, err
	}
	return relayBy(ctx, client.TCPConn, upstream, s.IdleTimeout, buffers, beside)
}

// peek lets the hook look until it wants no more or its time is over.
func (s *Server) peek(ctx context.Context, client *Conn, buffers *sync.Pool) error {
	if s.Peek == nil {
		return nil
	}
	look := func(first []byte) (enough bool) {
		found, more := s.Peek(client.ConnInfo, first)
		client.Peeked = found
		return !more
	}
	if look(nil) {
		return nil
	}
	buffer := buffers.Get().(*[]byte)
	defer buffers.Put(buffer)
	until := time.Now().Add(cmp.Or(s.PeekTimeout, DefaultPeekTimeout))
	err := peek(ctx, client.TCPConn, until, (*buffer)[:s.peekBytes()], func(first []byte) (enough bool) {
		return len(first) > 0 && look(first)
	})
	switch {
	case err == nil || errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() == nil:
		return nil
	default:
		return fmt.Errorf("proxy: peek: %w", err)
	}
}

func (s *Server) peekBytes() int { return cmp.Or(s.PeekBytes, DefaultPeekBytes) }

func (s *Server) dial(ctx context.Context, c ConnInfo) (*net.TCPConn, error) {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(s.DialTimeout, DefaultDialTimeout))
	defer cancel()
	if s.Dial != nil {
		return s.Dial(ctx, c)
	}
	return Dialer{}.Dial(ctx, c)
}
