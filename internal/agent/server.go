// SPDX-License-Identifier: Apache-2.0

//go:build linux

package agent

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Handler answers a request. What it answers to a DEL or a GC is not read.
type Handler func(context.Context, Request) Answer

// Listen listens on a socket that root alone may connect to, in place of one that a former agent left
// behind. The folder must exist.
func Listen(socket string) (*net.UnixListener, error) {
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(socket, 0o600); err != nil {
		listener.Close()
		return nil, err
	}
	return listener, nil
}

// Serve answers until the context is done, each request in a goroutine of its own. It closes the listener.
func Serve(ctx context.Context, listener net.Listener, answer Handler) error {
	stop := context.AfterFunc(ctx, func() { listener.Close() })
	defer stop()
	for {
		conn, err := listener.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		if !ofRoot(conn) {
			conn.Close()
			continue
		}
		go serve(ctx, conn, answer)
	}
}

// ofRoot reports whether a process of root's connected, or one of the program's own user: the socket's mode
// says so too, and a folder that is shared with a container may lose it.
func ofRoot(conn net.Conn) bool {
	unixConn, is := conn.(*net.UnixConn)
	if !is {
		return false
	}
	raw, err := unixConn.SyscallConn()
	if err != nil {
		return false
	}
	var peer *unix.Ucred
	if controlled := raw.Control(func(fd uintptr) { peer, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); controlled != nil || err != nil {
		return false
	}
	return peer.Uid == 0 || peer.Uid == uint32(os.Getuid())
}

func serve(ctx context.Context, conn net.Conn, answer Handler) {
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	if conn.SetDeadline(time.Now().Add(answerTime)) != nil {
		return
	}
	var request Request
	if receive(conn, &request) != nil {
		return // no request came
	}
	a := Answer{Decision: Unknown}
	if request.Version == Version {
		a = answer(ctx, request)
	}
	a.Version = Version
	line, err := json.Marshal(a)
	if err != nil {
		return
	}
	_, _ = conn.Write(append(line, '\n')) // a client that does not read loses the answer
}
