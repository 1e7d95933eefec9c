// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"time"

	"github.com/weir-mesh/weir/proxy"
	"golang.org/x/sys/unix"
)

// What the client of a rate that lasts does.
const (
	sustainedConnections = 8000 // a turn
	sustainedWarm        = 15   // rounds; with those that count 240,000 connections
	pumpedAtATime        = 32
	manyHosts            = 250 // that a pod calls, or that call it, one after the other
	pumpPatience         = 10 * time.Second
	forever              = -1
)

// sustained has a client and the proxy, a thread each that does nothing else, make as many
// connections as they can, from ports that the kernel chooses. Connection tracking remembers each
// for two minutes: its table, of 262,144 where nobody said otherwise, is half full once this is
// warm, and nearly full at the end. Where it is full REDIRECT lets no connection through.
func sustained(ctx context.Context, p *pod, d direction) (turner, error) {
	clientIn, port := p.client(d)
	s := &players{count: sustainedConnections}
	echo, err := play(ctx, p.pod, "echo", strconv.Itoa(int(port)))
	if err != nil {
		return s, err
	}
	s.others = append(s.others, echo)
	s.client, err = play(ctx, clientIn, "pump", strconv.Itoa(int(p.destination(d).Port())), string(d))
	return s, err
}

// playEcho sends back what connections say, by one thread.
func playEcho(l *proxy.Listener) error {
	f, err := l.File()
	if err != nil {
		return err
	}
	defer f.Close()
	listener := int(f.Fd())
	if err := unix.SetNonblock(listener, true); err != nil {
		return err
	}
	poll, err := newPoll()
	if err != nil {
		return err
	}
	if err := poll.add(listener, unix.EPOLLIN); err != nil {
		return err
	}
	said := make([]byte, 64)
	for {
		ready, err := poll.wait(forever)
		if err != nil {
			return err
		}
		for _, e := range ready {
			if int(e.Fd) == listener {
				err = poll.accept(listener)
			} else {
				err = sendBack(int(e.Fd), said)
			}
			if err != nil {
				return err
			}
		}
	}
}

// sendBack answers what a connection says, and closes it where the client has.
func sendBack(fd int, said []byte) error {
	n, err := unix.Read(fd, said)
	switch {
	case n > 0:
		_, err = unix.Write(fd, said[:n])
		return err
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
		return nil
	}
	return errors.Join(err, unix.Close(fd))
}

// A pump opens connections, has a byte go there and back on each, and closes it.
type pump struct {
	poll             poll
	port             int
	targets, sources []netip.Addr // in turn; no source: the kernel chooses
	opened           int
	asked            map[int]bool // the connections that are open: whether their byte is on its way
}

// playPump makes the connections of each turn.
func playPump(port int, d direction) error {
	poll, err := newPoll()
	if err != nil {
		return err
	}
	p := pump{poll: poll, port: port, targets: hosts(farPrefix), asked: map[int]bool{}}
	if d == inbound {
		p.targets, p.sources = []netip.Addr{podAddress.Addr()}, hosts(peerClients)
	}
	return eachTurn(p.run)
}

// hosts are the first of a prefix.
func hosts(prefix string) (all []netip.Addr) {
	next := netip.MustParsePrefix(prefix).Addr()
	for range manyHosts {
		next = next.Next()
		all = append(all, next)
	}
	return all
}

func (p *pump) run(count int) error {
	for left := count; left > 0 || len(p.asked) > 0; {
		for ; left > 0 && len(p.asked) < pumpedAtATime; left-- {
			if err := p.open(); err != nil {
				return err
			}
		}
		ready, err := p.poll.wait(pumpPatience)
		if err != nil {
			return err
		}
		if len(ready) == 0 {
			return fmt.Errorf("%d connections have no answer after %s", len(p.asked), pumpPatience)
		}
		for _, e := range ready {
			if err := p.advance(int(e.Fd)); err != nil {
				return err
			}
		}
	}
	return nil
}

// open begins the next connection.
func (p *pump) open() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	if len(p.sources) > 0 {
		err = errors.Join(unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1),
			unix.Bind(fd, &unix.SockaddrInet4{Addr: p.sources[p.opened%len(p.sources)].As4()}))
		if err != nil {
			return err
		}
	}
	to := &unix.SockaddrInet4{Addr: p.targets[p.opened%len(p.targets)].As4(), Port: p.port}
	if err := unix.Connect(fd, to); err != nil && !errors.Is(err, unix.EINPROGRESS) {
		return fmt.Errorf("connect: %w", err)
	}
	p.opened++
	p.asked[fd] = false
	return p.poll.add(fd, unix.EPOLLOUT)
}

// advance does what a connection is ready for.
func (p *pump) advance(fd int) error {
	one := []byte{'x'}
	if !p.asked[fd] {
		if _, err := unix.Write(fd, one); err != nil {
			return fmt.Errorf("connection %d: %w", p.opened, err)
		}
		p.asked[fd] = true
		return p.poll.modify(fd, unix.EPOLLIN)
	}
	if n, err := unix.Read(fd, one); err != nil || n != 1 {
		return fmt.Errorf("connection %d: %d bytes sent back: %w", p.opened, n, err)
	}
	delete(p.asked, fd)
	return unix.Close(fd)
}

// A poll is epoll(7)'s.
type poll struct {
	fd     int
	events []unix.EpollEvent
}

func newPoll() (poll, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	return poll{fd, make([]unix.EpollEvent, 256)}, err
}

func (p poll) add(fd int, events uint32) error {
	return unix.EpollCtl(p.fd, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: events, Fd: int32(fd)})
}

func (p poll) modify(fd int, events uint32) error {
	return unix.EpollCtl(p.fd, unix.EPOLL_CTL_MOD, fd, &unix.EpollEvent{Events: events, Fd: int32(fd)})
}

// accept takes what waits at a listener.
func (p poll) accept(listener int) error {
	for range pumpedAtATime {
		fd, _, err := unix.Accept4(listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
			return nil // epoll tells again
		}
		if err == nil {
			err = p.add(fd, unix.EPOLLIN)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// wait is what is ready within a time.
func (p poll) wait(limit time.Duration) ([]unix.EpollEvent, error) {
	milliseconds := int(limit.Milliseconds())
	if limit == forever {
		milliseconds = -1
	}
	for {
		n, err := unix.EpollWait(p.fd, p.events, milliseconds)
		if !errors.Is(err, unix.EINTR) {
			return p.events[:max(n, 0)], err
		}
	}
}
