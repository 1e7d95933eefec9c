// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"time"

	"github.com/weir-mesh/weir/proxy"
	"golang.org/x/sys/unix"
)

// What a client of a sustained rate does.
const (
	sustainedConnections = 8000 // a turn
	pumpedAtATime        = 64
	destinations         = 250 // of what a pod calls, one after the other
	peers                = 250 // that call a pod
	pumpPatience         = 10 * time.Second
)

// sustained has a client and the proxy, a thread each and nothing else, do as many connections as
// they can, from ports that the kernel chooses: by the end there have been 128,000, of which
// connection tracking still holds those of the last two minutes.
func sustained(ctx context.Context, p *pod, d direction) (turner, error) {
	clientIn, port := p.client(d)
	s := &players{count: sustainedConnections}
	if err := errors.Join(p.pod.Sysctl(portRange, "32768 60999"), p.peer.Sysctl(portRange, "32768 60999")); err != nil {
		return s, err
	}
	echo, err := play(ctx, p.pod, "echo", strconv.Itoa(int(port)))
	if err != nil {
		return s, err
	}
	s.others = append(s.others, echo)
	to, from, targets, sources := p.destination(d), netip.IPv4Unspecified(), destinations, 0
	if d == inbound {
		from, targets, sources = peerClients.Addr(), 1, peers
	}
	s.client, err = play(ctx, clientIn, "pump", strconv.Itoa(int(to.Port())), to.Addr().String(), strconv.Itoa(targets), from.String(), strconv.Itoa(sources))
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
		ready, err := poll.wait(-1)
		if err != nil {
			return err
		}
		for _, e := range ready {
			if fd := int(e.Fd); fd != listener {
				if n, err := unix.Read(fd, said); n > 0 {
					_, _ = unix.Write(fd, said[:n]) // the client tells what it lacks
				} else if err == nil || !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) {
					_ = unix.Close(fd)
				}
				continue
			}
			for range pumpedAtATime {
				fd, _, err := unix.Accept4(listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
				if err != nil {
					break // none is left
				}
				if err := poll.add(fd, unix.EPOLLIN); err != nil {
					return err
				}
			}
		}
	}
}

// playPump makes as many connections as each line of its input says.
func playPump(to netip.AddrPort, targets int, from netip.Addr, sources int) error {
	poll, err := newPoll()
	if err != nil {
		return err
	}
	p := pump{poll: poll, to: to, targets: hosts(to.Addr(), targets), sources: hosts(from, sources), asked: map[int]bool{}}
	fmt.Println(time.Duration(0))
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		count, err := strconv.Atoi(in.Text())
		if err != nil {
			return err
		}
		begin := time.Now()
		if err := p.run(count); err != nil {
			return err
		}
		fmt.Println(time.Since(begin))
	}
	return nil
}

func hosts(first netip.Addr, count int) (all []netip.Addr) {
	for range count {
		all = append(all, first)
		first = first.Next()
	}
	return all
}

// A pump opens connections, has a byte go there and back on each, and closes it.
type pump struct {
	poll    poll
	to      netip.AddrPort
	targets []netip.Addr
	sources []netip.Addr // none: the kernel chooses
	opened  int
	asked   map[int]bool // connections whose byte is on its way
}

func (p *pump) run(count int) error {
	open := func() error { p.opened++; return p.open(p.opened) }
	for range min(count, pumpedAtATime) {
		if err := open(); err != nil {
			return err
		}
	}
	for left := count - min(count, pumpedAtATime); len(p.asked) > 0; {
		ready, err := p.poll.wait(pumpPatience)
		if err != nil {
			return err
		}
		if len(ready) == 0 {
			return fmt.Errorf("%d connections to %s have no answer after %s", len(p.asked), p.to, pumpPatience)
		}
		for _, e := range ready {
			done, err := p.advance(int(e.Fd))
			if err != nil {
				return err
			}
			if done && left > 0 {
				left--
				if err := open(); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (p *pump) open(n int) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	if len(p.sources) > 0 {
		err = errors.Join(unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1),
			unix.Bind(fd, &unix.SockaddrInet4{Addr: p.sources[n%len(p.sources)].As4()}))
		if err != nil {
			return err
		}
	}
	err = unix.Connect(fd, &unix.SockaddrInet4{Addr: p.targets[n%len(p.targets)].As4(), Port: int(p.to.Port())})
	if err != nil && !errors.Is(err, unix.EINPROGRESS) {
		return fmt.Errorf("connect to %s: %w", p.to, err)
	}
	p.asked[fd] = false
	return p.poll.add(fd, unix.EPOLLOUT)
}

// advance does what a connection is ready for; done is true of its end.
func (p *pump) advance(fd int) (done bool, err error) {
	one := []byte{'x'}
	if !p.asked[fd] {
		if _, err := unix.Write(fd, one); err != nil {
			return false, fmt.Errorf("write to %s: %w", p.to, err)
		}
		p.asked[fd] = true
		return false, p.poll.modify(fd, unix.EPOLLIN)
	}
	if n, err := unix.Read(fd, one); err != nil || n != 1 {
		return false, fmt.Errorf("%s sent back %d bytes: %w", p.to, n, err)
	}
	delete(p.asked, fd)
	return true, unix.Close(fd)
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

// wait is what is ready within a time, or a negative one for however long it takes.
func (p poll) wait(limit time.Duration) ([]unix.EpollEvent, error) {
	for {
		n, err := unix.EpollWait(p.fd, p.events, int(max(limit, -time.Millisecond)/time.Millisecond))
		if !errors.Is(err, unix.EINTR) {
			return p.events[:max(n, 0)], err
		}
	}
}
