// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nft

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/mdlayher/netlink"
	"github.com/weir-mesh/weir/internal/nl"
	"github.com/weir-mesh/weir/internal/sockdiag"
	"golang.org/x/sys/unix"
)

// Conn is a way into the nftables and the routing of one network namespace. It
// is safe for use by many goroutines; its verbs run one at a time.
type Conn struct {
	mu     sync.Mutex
	nf     *nl.Socket
	route  *nl.Socket
	diag   *nl.Socket     // of sock_diag(7), or nil
	noDiag error          // why there is none
	watch  *watch         // nil: no other writer was met
	last   string         // who committed last, in the verb at work; "" where it was not heard
	added  []netip.Prefix // addresses, by an apply that goes on: before Linux 5.18 only its tag will know them
}

// Open connects to the calling thread's network namespace or, where netns is
// not 0, to the one that the file descriptor names; the descriptor may be
// closed afterwards. Entering another namespace needs CAP_SYS_ADMIN.
func Open(netns int) (*Conn, error) {
	sockets, err := nl.Open(netns, unix.NETLINK_NETFILTER, unix.NETLINK_ROUTE, unix.NETLINK_SOCK_DIAG)
	noDiag := sockdiag.ErrNoTCP
	if err != nil { // a kernel may lack sock_diag, and a seccomp filter or SELinux refuse it
		if !errors.Is(err, unix.EPROTONOSUPPORT) {
			noDiag = fmt.Errorf("TCP sockets cannot be listed: open a socket of sock_diag: %w", err)
		}
		sockets, err = nl.Open(netns, unix.NETLINK_NETFILTER, unix.NETLINK_ROUTE)
	}
	if errors.Is(err, nl.ErrNotEntered) { // which CAP_NET_ADMIN does not give
		return nil, err
	}
	if err != nil {
		return nil, fmt.Errorf("netlink: open a socket: %w", nl.Permission(err))
	}
	c := &Conn{nf: sockets[0], route: sockets[1]}
	if len(sockets) > 2 {
		c.diag = sockets[2]
	} else {
		c.noDiag = noDiag
	}
	// Acknowledgements then say what the kernel refused.
	if err := errors.Join(c.nf.SetOption(unix.NETLINK_EXT_ACK), c.route.SetOption(unix.NETLINK_EXT_ACK)); err != nil {
		return nil, errors.Join(fmt.Errorf("netlink: extended acknowledgements (Linux 4.12): %w", err), c.Close())
	}
	// Without it a filtered dump of routes is a dump of all of them.
	if err := c.route.SetOption(unix.NETLINK_GET_STRICT_CHK); err != nil {
		return nil, errors.Join(fmt.Errorf("netlink: strict checking (Linux 4.20): %w", err), c.Close())
	}
	return c, nil
}

// ports are the port ids of the sockets by which it changes something.
func (c *Conn) ports() (out []uint32) {
	for _, s := range []*nl.Socket{c.nf, c.route} {
		if port, err := s.Port(); err == nil && port != 0 {
			out = append(out, port)
		}
	}
	return out
}

// LimitReading bounds how many bytes of nftables the connection reads, whatever its
// verbs: [ErrTooMuch] is their error once it was more.
func (c *Conn) LimitReading(bytes int) { c.nf.Limit(bytes) }

// ErrTooMuch means that a namespace holds more than [Conn.LimitReading] allows to read.
var ErrTooMuch = nl.ErrLimit

// Close ends the connection.
func (c *Conn) Close() error {
	c.endWatch()
	if c.diag == nil {
		return nl.Close(c.nf, c.route)
	}
	return nl.Close(c.nf, c.route, c.diag)
}

// dump sends a request and collects the replies. Its errors are those of [nl.Dump].
func dump(ctx context.Context, conn *nl.Socket, typ uint16, payload []byte) (msgs []netlink.Message, err error) {
	err = nl.Dump(ctx, conn, typ, payload, nl.Collect(&msgs))
	if err != nil {
		return nil, err
	}
	return msgs, nil
}

// execute sends a request and collects the replies.
func execute(ctx context.Context, conn *nl.Socket, m netlink.Message) (msgs []netlink.Message, err error) {
	err = conn.Execute(ctx, m, nl.Collect(&msgs))
	return msgs, nl.Permission(err)
}

// again reads until no other program changes meanwhile what is read, or one has done
// so for too long.
func again(ctx context.Context, read func() error) error {
	for start := time.Now(); ; {
		err := read()
		if !errors.Is(err, errGeneration) && !errors.Is(err, errUnknown) {
			return err
		}
		if time.Since(start) > patience {
			return &ChangedError{After: time.Since(start), Err: err}
		}
		if err := pause(ctx, rand.N(readPause)); err != nil {
			return err
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// generation is the number of the namespace's present ruleset. It moves by one
// with every commit of any program.
func (c *Conn) generation(ctx context.Context) (uint32, error) {
	msgs, err := execute(ctx, c.nf, netlink.Message{
		Header: netlink.Header{Type: nfType(unix.NFT_MSG_GETGEN), Flags: netlink.Request},
		Data:   nfgen(unix.AF_UNSPEC, 0),
	})
	if errors.Is(err, syscall.EINVAL) {
		return 0, fmt.Errorf("nftables: %w (%s)", err, hint(syscall.ENOENT, "subsystem"))
	}
	if err != nil {
		return 0, fmt.Errorf("nftables: read the generation: %w", err)
	}
	for _, m := range msgs {
		if a, err := payload(m); err == nil && a.Has(unix.NFTA_GEN_ID) {
			return uint32(a.Number(unix.NFTA_GEN_ID)), nil
		}
	}
	return 0, errors.New("nftables: the kernel told no generation")
}

// atOneGeneration reads what another program's commit would change, and tells the
// generation at which it stood; where there was a commit that may have changed
// it, the error is errGeneration, whatever was half read.
func (c *Conn) atOneGeneration(ctx context.Context, read func() error) (uint32, error) {
	before, err := c.generation(ctx)
	if err != nil {
		return 0, err
	}
	failed := read()
	after, err := c.generation(ctx)
	switch {
	case err != nil:
		return 0, err
	case before != after && !c.quiet(ctx, before, after):
		return 0, errGeneration
	}
	return after, failed
}

func nfType(msg int) netlink.HeaderType {
	return netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | msg)
}

const nfgenLen = 4 // struct nfgenmsg of linux/netfilter/nfnetlink.h

func nfgen(family uint8, resource uint16) []byte {
	return binary.BigEndian.AppendUint16([]byte{family, unix.NFNETLINK_V0}, resource)
}

// payload are the attributes of an nfnetlink message.
func payload(m netlink.Message) (nl.Attributes, error) {
	if len(m.Data) < nfgenLen {
		return nil, errors.New("nftables: a message is too short")
	}
	return nl.Decode(m.Data[nfgenLen:])
}
