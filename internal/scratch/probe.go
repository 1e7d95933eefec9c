// SPDX-License-Identifier: Apache-2.0

//go:build linux

package scratch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// awaitTimeout is how long each try of [Probe.Await] takes at most.
const awaitTimeout = 50 * time.Millisecond

// patienceSteps is how many steps a timeout is counted in.
const patienceSteps = 8

// A Probe is one connection or datagram: who sends it, from where and to where.
type Probe struct {
	ID        string     `json:"id"`
	Namespace string     `json:"ns"`    // "pod" or "peer"; only [RunProbes] looks at it
	Proto     string     `json:"proto"` // "tcp" or "udp"
	UID       uint32     `json:"uid"`
	GID       uint32     `json:"gid"`
	Mark      uint32     `json:"mark"`  // SO_MARK, where it is not 0
	Src       netip.Addr `json:"src"`   // the address to send from; none leaves it to the kernel
	Spoof     bool       `json:"spoof"` // Src is not the sender's own (IP_TRANSPARENT)
	Dst       netip.Addr `json:"dst"`   // its family is the probe's
	DPort     uint16     `json:"dport"`
	SPort     uint16     `json:"sport"`  // 0 leaves it to the kernel
	Device    string     `json:"device"` // the interface that its socket is bound to (SO_BINDTODEVICE), if any
}

// Send sends the probe from a namespace and waits for the answer of a [Server], with the timeout once
// for the connection and once for the answer. Whatever becomes of the packets is a fate; an error
// means that the probe could not be tried, or that ctx was done. The fate's CT is not filled in.
func (p Probe) Send(ctx context.Context, ns *Namespace, timeout time.Duration) (Fate, error) {
	var conn net.Conn
	var failed error
	err := ns.DoAs(p.UID, p.GID, func() error {
		conn, failed = p.dial(ctx, timeout)
		return nil
	})
	if err != nil {
		return Fate{}, fmt.Errorf("probe %s: %w", p.ID, err)
	}
	var got answer
	if failed == nil {
		got, failed = p.ask(ctx, conn, timeout)
	}
	if err := ended(ctx); err != nil && failed != nil {
		return Fate{}, fmt.Errorf("probe %s: %w", p.ID, err)
	}
	if failed != nil {
		return Fate{Land: ending(failed)}, nil
	}
	fate := Fate{Land: got.Land, Orig: got.Orig, Src: SourceChanged}
	if got.Peer == addrPort(conn.LocalAddr()).Addr() {
		fate.Src = SourceKept
	}
	return fate, nil
}

// ended is ctx.Err, but also after ctx's deadline and before its timer: a socket with the same deadline
// may give up in between.
func ended(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if deadline, ok := ctx.Deadline(); ok && !time.Now().Before(deadline) {
		return context.DeadlineExceeded
	}
	return nil
}

// Await sends the probe until a [Server] answers it. A link carries packets a moment after it is up,
// and the first of them waits until the other end's hardware address is known: this is how to be sure
// of both before the fate or the time of a probe counts. It gives up when ctx is done.
func (p Probe) Await(ctx context.Context, ns *Namespace) error {
	last := Fate{Land: "not sent"}
	for {
		fate, err := p.Send(ctx, ns, awaitTimeout)
		if err != nil {
			return fmt.Errorf("await an answer, so far %s: %w", last, err)
		}
		if fate.Src != "" {
			return nil
		}
		last = fate
		rest(ctx)
	}
}

// dial opens the probe's socket from the calling thread and connects it.
func (p Probe) dial(ctx context.Context, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := patience(ctx, timeout)
	defer cancel()
	options := socketOptions{reuse: true, mark: p.Mark, transparent: p.Spoof, device: p.Device}
	dialer := net.Dialer{Control: options.control}
	version, from := "4", netip.IPv4Unspecified()
	if p.Dst.Is6() {
		version, from = "6", netip.IPv6Unspecified()
	}
	if p.Src.IsValid() {
		from = p.Src
	}
	src, dst := netip.AddrPortFrom(from, p.SPort), netip.AddrPortFrom(p.Dst, p.DPort)
	switch p.Proto {
	case "tcp":
		// Not returned as it is: a nil *net.TCPConn would be a net.Conn that is not nil.
		conn, err := dialer.DialTCP(ctx, "tcp"+version, src, dst)
		if err != nil {
			return nil, err
		}
		return conn, nil
	case "udp":
		conn, err := dialer.DialUDP(ctx, "udp"+version, src, dst)
		if err != nil {
			return nil, err
		}
		return conn, nil
	default:
		return nil, fmt.Errorf("protocol %q (want tcp or udp)", p.Proto)
	}
}

// ask waits for the answer that a connection gets, which over UDP needs a question, and closes it.
func (p Probe) ask(ctx context.Context, conn net.Conn, timeout time.Duration) (got answer, err error) {
	ctx, cancel := patience(ctx, timeout)
	defer cancel()
	defer conn.Close()
	defer breakOff(ctx, conn)()
	if p.Proto == "udp" {
		if _, err := conn.Write([]byte("probe")); err != nil {
			return got, err
		}
	}
	err = json.NewDecoder(io.LimitReader(conn, datagramSize)).Decode(&got)
	return got, err
}

// ending is where a probe landed that got no answer.
func ending(err error) string {
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		return "timeout"
	}
	switch {
	case errors.Is(err, context.Canceled): // patience, while connecting
		return "timeout"
	case errors.Is(err, unix.ECONNREFUSED):
		return "refused"
	case errors.Is(err, io.EOF):
		return "closed"
	}
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		// The C library's words, in which the tables are written, start with a capital.
		text := errno.Error()
		return "error:" + strings.ToUpper(text[:1]) + text[1:]
	}
	return "error:" + err.Error()
}

// patience is a context that is done after a timeout, or with its parent. The timeout is counted in
// steps: of the time in which this process gets no processor, and so neither listener nor probe can do
// anything, no more than one step counts, and each ends once threads of this process have run: an answer needs
// several. On an idle machine it is the timeout.
func patience(ctx context.Context, timeout time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		defer cancel()
		for range patienceSteps {
			select {
			case <-time.After(timeout / patienceSteps):
				takeTurn()
			case <-ctx.Done():
				return
			}
		}
	}()
	return ctx, cancel
}

// takeTurn returns once the kernel has run a thread that gave its turn away, and another in between, as the threads
// do that connect and accept as a user.
func takeTurn() {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		runtime.Gosched()
	}()
	<-done
}
