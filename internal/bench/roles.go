// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/weir-mesh/weir/internal/scratch"
	"github.com/weir-mesh/weir/proxy"
	"golang.org/x/sys/unix"
)

// roleName is what the program is called when it is a client, a proxy or a service of those
// that are measured: a process each, in its own namespace.
const roleName = "weir-bench-role"

// clientsAtATime is how many connections a client has at once.
const clientsAtATime = 16

// A role is such a process.
type role struct {
	process *exec.Cmd
	in      io.WriteCloser
	out     *bufio.Reader
}

// play starts a process in a namespace, and waits until it is ready.
func play(ctx context.Context, ns *scratch.Namespace, args ...string) (*role, error) {
	r := &role{process: exec.CommandContext(ctx, "/proc/self/exe", args...)}
	r.process.Args[0] = roleName
	r.process.Stderr = os.Stderr
	r.process.Env = append(os.Environ(), "GOMAXPROCS=1")
	in, err := r.process.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := r.process.StdoutPipe()
	if err != nil {
		return nil, err
	}
	r.in, r.out = in, bufio.NewReader(out)
	if err := ns.Do(r.process.Start); err != nil {
		return nil, err
	}
	if _, err := r.answer(); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// ask has a client make so many connections, and tells how long they took.
func (r *role) ask(count int) (time.Duration, error) {
	if _, err := fmt.Fprintln(r.in, count); err != nil {
		return 0, err
	}
	return r.answer()
}

func (r *role) answer() (time.Duration, error) {
	line, err := r.out.ReadString('\n')
	if err != nil {
		return 0, fmt.Errorf("%v: %w", r.process.Args[1:], err)
	}
	took, err := time.ParseDuration(line[:len(line)-1])
	if err != nil {
		return 0, fmt.Errorf("%v: %s", r.process.Args[1:], line)
	}
	return took, nil
}

// used is the time of processors that the process has used.
func (r *role) used() (time.Duration, error) {
	const ofProcess = 2 // CPUCLOCK_SCHED, of all threads
	var t unix.Timespec
	err := unix.ClockGettime(int32(^r.process.Process.Pid)<<3|ofProcess, &t)
	return time.Duration(t.Nano()), err
}

// Close ends the process.
func (r *role) Close() error {
	err := r.in.Close()
	_ = r.process.Process.Kill() // it may have gone
	var ended *exec.ExitError
	if waitErr := r.process.Wait(); !errors.As(waitErr, &ended) {
		err = errors.Join(err, waitErr)
	}
	return err
}

// playRole is what the process of a role does, until its standard input ends.
func playRole(args []string) error {
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(syscall.SIGKILL), 0, 0, 0); err != nil {
		return err
	}
	ctx := context.Background()
	what, port := args[0], args[1]
	p, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return err
	}
	if what == "client" {
		first, err := strconv.Atoi(args[3])
		if err != nil {
			return err
		}
		return playClient(netip.AddrPortFrom(netip.MustParseAddr(args[2]), uint16(p)), first)
	}
	if what == "pump" {
		return playPump(int(p), direction(args[2]))
	}
	options := proxy.SocketOptions{Transparent: true, Mark: proxyMark}
	if what == "service" {
		options = proxy.SocketOptions{}
	}
	l, err := proxy.Listen(ctx, netip.AddrPortFrom(netip.IPv4Unspecified(), uint16(p)), options)
	if err != nil {
		return err
	}
	fmt.Println(time.Duration(0))
	switch what {
	case "relay":
		return (&proxy.Server{Dial: dialOn(args[2:]), MaxConns: 1 << 14}).Serve(ctx, l)
	case "echo":
		return playEcho(l)
	default:
		return answerAll(l)
	}
}

// dialOn is how a proxy goes on: to where the connection was going, or to an address, perhaps
// from another one.
func dialOn(to []string) func(context.Context, proxy.ConnInfo) (*net.TCPConn, error) {
	d := proxy.Dialer{Mark: proxyMark}
	if len(to) > 1 {
		d.Source = []netip.Addr{netip.MustParseAddr(to[1])}
	}
	return func(ctx context.Context, c proxy.ConnInfo) (*net.TCPConn, error) {
		if len(to) > 0 {
			c.OriginalDst = netip.AddrPortFrom(netip.MustParseAddr(to[0]), appPort)
		}
		return d.Dial(ctx, c)
	}
}

// answerAll sends back what connections say.
func answerAll(l *proxy.Listener) error {
	for {
		c, err := l.AcceptConn()
		if err != nil {
			return err
		}
		go func() {
			defer c.Close()
			said := make([]byte, 64)
			for {
				n, err := c.Read(said)
				if err != nil {
					return
				}
				if _, err := c.Write(said[:n]); err != nil {
					return
				}
			}
		}()
	}
}

// playClient makes the connections of each turn, from a port each.
func playClient(to netip.AddrPort, sourcePort int) error {
	return eachTurn(func(count int) error {
		err := askAll(to, sourcePort, count)
		sourcePort += count
		return err
	})
}

// eachTurn has as many connections made as each line of the input says, and says how long they took.
func eachTurn(do func(count int) error) error {
	fmt.Println(time.Duration(0))
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		count, err := strconv.Atoi(in.Text())
		if err != nil {
			return err
		}
		begin := time.Now()
		if err := do(count); err != nil {
			return err
		}
		fmt.Println(time.Since(begin))
	}
	return nil
}

// askAll makes the connections, some at a time.
func askAll(to netip.AddrPort, sourcePort, count int) error {
	var next atomic.Int64
	failed := make([]error, clientsAtATime)
	var clients sync.WaitGroup
	for n := range failed {
		clients.Go(func() {
			for failed[n] == nil {
				i := int(next.Add(1)) - 1
				if i >= count {
					return
				}
				failed[n] = askOnce(to, sourcePort+i)
			}
		})
	}
	clients.Wait()
	return errors.Join(failed...)
}

// askOnce makes a connection, over which a byte goes there and back.
func askOnce(to netip.AddrPort, sourcePort int) error {
	d := net.Dialer{Timeout: 5 * time.Second, LocalAddr: &net.TCPAddr{Port: sourcePort}}
	c, err := d.Dial("tcp4", to.String())
	if err != nil {
		return err
	}
	one := []byte{'x'}
	if _, err = c.Write(one); err == nil {
		_, err = io.ReadFull(c, one)
	}
	return errors.Join(err, c.Close())
}
