// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"github.com/weir-mesh/weir/proxy"
	"golang.org/x/sys/unix"
)

const (
	aloneAtATime = 120
	bulkAtATime  = 128 << 20
	bulkChunk    = 256 << 10
)

// onOneThread runs both ends of connections on one thread: what that uses of a processor is
// all that they take, over lo and over veth, whatever else the machine has to do. The
// listener is one of package proxy's, as every proxy of the project has it.
func onOneThread(ctx context.Context, p *pod, d direction, do func(listener int) error) (took effort, err error) {
	client, port := p.client(d)
	var listener *os.File
	err = p.pod.Do(func() error {
		l, err := proxy.Listen(ctx, netip.AddrPortFrom(netip.IPv4Unspecified(), port), proxy.SocketOptions{Transparent: true, Mark: proxyMark})
		if err != nil {
			return err
		}
		listener, err = l.File()
		return errors.Join(err, l.Close())
	})
	if err != nil {
		return took, err
	}
	defer listener.Close()
	err = client.Do(func() error {
		stay()
		fd := int(listener.Fd()) // which makes it block
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &connectTimeout); err != nil {
			return err
		}
		start, err := threadTime()
		if err != nil {
			return err
		}
		begin := time.Now()
		err = do(fd)
		took.wall = time.Since(begin)
		end, timeErr := threadTime()
		took.cpu = end - start
		return errors.Join(err, timeErr)
	})
	return took, err
}

// open makes the next connection, of which the proxy asks where it was going.
func (p *pod) open(d direction, listener int) (client, accepted int, err error) {
	source := p.sourcePort
	p.sourcePort++
	to := p.destination(d)
	if client, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
		return 0, 0, err
	}
	err = errors.Join(unix.SetsockoptTimeval(client, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &connectTimeout),
		unix.Bind(client, &unix.SockaddrInet4{Port: source}))
	if err != nil {
		return 0, 0, errors.Join(err, unix.Close(client))
	}
	err = unix.Connect(client, &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()})
	// Go's own signals interrupt; the connection goes on, and accepting waits for it.
	if err != nil && !errors.Is(err, unix.EINTR) {
		return 0, 0, errors.Join(fmt.Errorf("connect to %s: %w", to, err), unix.Close(client))
	}
	for {
		accepted, _, err = unix.Accept4(listener, unix.SOCK_CLOEXEC)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		return 0, 0, errors.Join(fmt.Errorf("accept what goes to %s: %w", to, err), unix.Close(client))
	}
	if got, err := askedFor(accepted); err != nil || got != to {
		return 0, 0, errors.Join(fmt.Errorf("the original destination is %s, not %s", got, to), err, unix.Close(client), unix.Close(accepted))
	}
	return client, accepted, nil
}

// askedFor is where a connection was going, found as proxy.OriginalDst does.
func askedFor(fd int) (netip.AddrPort, error) {
	local, err := unix.Getsockname(fd)
	if err != nil {
		return netip.AddrPort{}, err
	}
	if v, err := unix.GetsockoptIPv6Mreq(fd, unix.SOL_IP, unix.SO_ORIGINAL_DST); err == nil {
		sa := v.Multiaddr // struct sockaddr_in: family, port, address
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(sa[4:8])), uint16(sa[2])<<8|uint16(sa[3])), nil
	}
	in := local.(*unix.SockaddrInet4)
	return netip.AddrPortFrom(netip.AddrFrom4(in.Addr), uint16(in.Port)), nil
}

// alone are connections of which both ends are one thread's: what they take is what the
// kernel does for them, and little else.
type alone struct {
	p *pod
	d direction
}

func capturedAlone(_ context.Context, p *pod, d direction) (turner, error) { return alone{p, d}, nil }

func (a alone) Close() error { return nil }

// turn opens connections one after the other, has a byte go each way, and closes them in
// good order, the client first.
func (a alone) turn(ctx context.Context) (float64, effort, error) {
	took, err := onOneThread(ctx, a.p, a.d, func(listener int) error {
		for range aloneAtATime {
			client, accepted, err := a.p.open(a.d, listener)
			if err != nil {
				return err
			}
			if err := errors.Join(exchange(client, accepted), unix.Close(client), unix.Close(accepted)); err != nil {
				return err
			}
		}
		return nil
	})
	return aloneAtATime, took, err
}

// exchange has a byte go there and back.
func exchange(client, accepted int) error {
	one := make([]byte, 1)
	for _, way := range [][2]int{{client, accepted}, {accepted, client}} {
		if _, err := unix.Write(way[0], one); err != nil {
			return err
		}
		n, err := unix.Read(way[1], one)
		for errors.Is(err, unix.EINTR) {
			n, err = unix.Read(way[1], one)
		}
		if err != nil || n != 1 {
			return fmt.Errorf("read %d bytes, not 1: %w", n, err)
		}
	}
	return nil
}

// A bulk sends much over one connection.
type bulk struct {
	p *pod
	d direction
}

func capturedBulk(_ context.Context, p *pod, d direction) (turner, error) { return bulk{p, d}, nil }

func (b bulk) Close() error { return nil }

func (b bulk) turn(ctx context.Context) (gigabits float64, took effort, err error) {
	took, err = onOneThread(ctx, b.p, b.d, func(listener int) error {
		client, accepted, err := b.p.open(b.d, listener)
		if err != nil {
			return err
		}
		return errors.Join(pour(client, accepted), unix.Close(client), unix.Close(accepted))
	})
	return bulkAtATime * 8 / 1e9, took, err
}

// pour fills the connection and empties it in turn, so that one thread is enough.
func pour(client, accepted int) error {
	if err := errors.Join(unix.SetNonblock(client, true), unix.SetNonblock(accepted, true)); err != nil {
		return err
	}
	buffer := make([]byte, bulkChunk)
	for sent, received := 0, 0; received < bulkAtATime; {
		if sent < bulkAtATime {
			n, err := unix.Write(client, buffer[:min(bulkChunk, bulkAtATime-sent)])
			if err != nil && !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) {
				return err
			}
			sent += max(n, 0)
		}
		n, err := unix.Read(accepted, buffer)
		switch {
		case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
		case err != nil:
			return err
		case n == 0:
			return fmt.Errorf("the connection ended after %d bytes", received)
		}
		received += max(n, 0)
	}
	return nil
}
