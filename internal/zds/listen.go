// SPDX-License-Identifier: Apache-2.0

//go:build linux

package zds

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// DefaultSocket is where ztunnel looks for its node's agent.
const DefaultSocket = "/var/run/ztunnel/ztunnel.sock"

const (
	acceptInterval = 200 * time.Millisecond // at most five connections a second: a proxy that crashes in a loop takes a snapshot each time
	maxConnections = 16
)

// Listen listens on a socket that root alone may connect to. It takes the place of one that is there in one
// step, and stays when the listener is closed: it may be the next server's by then. The folder must exist.
func Listen(path string) (*net.UnixListener, error) {
	next := path + ".next"
	if err := os.Remove(next); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: next, Net: "unixpacket"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	if err := errors.Join(os.Chmod(next, 0o600), os.Rename(next, path)); err != nil {
		return nil, errors.Join(err, l.Close(), os.Remove(next))
	}
	return l, nil
}

// Serve serves the proxies that connect until the context ends. It closes the listener and every connection,
// and returns nil. Every pod that proxies may serve must be known before: see Prepare and KeepServed.
func (s *Server) Serve(ctx context.Context, l *net.UnixListener) error {
	ctx, stop := context.WithCancel(ctx)
	defer context.AfterFunc(ctx, func() { l.Close() })()
	defer l.Close()
	var all sync.WaitGroup
	defer all.Wait()
	defer stop()
	places := make(chan struct{}, maxConnections)
	for {
		conn, err := l.AcceptUnix()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				conn.Close()
			}
			return nil
		case errors.Is(err, net.ErrClosed):
			return err
		case err != nil: // such as too many open files
			s.options.Log.Error("accept a proxy of the node", "error", err)
		default:
			s.welcome(ctx, conn, places, &all)
		}
		select {
		case <-ctx.Done():
		case <-time.After(s.interval):
		}
	}
}

// welcome serves a connection in a goroutine of its own, where there is room for it and it may have it.
func (s *Server) welcome(ctx context.Context, conn *net.UnixConn, places chan struct{}, all *sync.WaitGroup) {
	pid, err := s.admit(conn)
	if err != nil {
		s.options.Log.Warn("a connection was refused", "pid", pid, "error", err)
		conn.Close()
		return
	}
	select {
	case places <- struct{}{}:
	default:
		s.options.Log.Warn("a connection was refused", "pid", pid, "error", fmt.Sprintf("there are %d", maxConnections))
		conn.Close()
		return
	}
	all.Go(func() {
		defer func() { <-places }()
		s.options.Log.Info("a proxy of the node connected", "pid", pid)
		err := newProxy(s, conn).serve(ctx)
		if ctx.Err() == nil {
			s.options.Log.Info("a proxy of the node has gone", "pid", pid, "error", err)
		}
	})
}

// admit is an error where the other end's user may not connect.
func (s *Server) admit(conn *net.UnixConn) (pid int32, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	var peer *unix.Ucred
	if outer := raw.Control(func(fd uintptr) { peer, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil || outer != nil {
		return 0, errors.Join(err, outer)
	}
	if !slices.Contains(s.options.Users, peer.Uid) {
		return peer.Pid, fmt.Errorf("user %d may not connect", peer.Uid)
	}
	return peer.Pid, nil
}
