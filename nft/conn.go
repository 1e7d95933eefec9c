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
	"golang.org/x/sys/unix"
)

// Conn is a way into the nftables and the routing of one network namespace. It
// is safe for use by many goroutines; its verbs run one at a time.
type Conn struct {
	mu    sync.Mutex
	nf    *netlink.Conn
	route *netlink.Conn
	seq   uint32
	added []netip.Prefix // addresses, by an apply that goes on: before Linux 5.18 only its tag will know them
}

// Open connects to the calling thread's network namespace or, where netns is
// not 0, to the one that the file descriptor names; the descriptor may be
// closed afterwards. Entering another namespace needs CAP_SYS_ADMIN.
func Open(netns int) (*Conn, error) {
	c := &Conn{seq: 1}
	var err error
	if c.nf, err = dial(unix.NETLINK_NETFILTER, netns); err != nil {
		return nil, err
	}
	if c.route, err = dial(unix.NETLINK_ROUTE, netns); err != nil {
		c.nf.Close()
		return nil, err
	}
	// Without it a filtered dump of routes is a dump of all of them.
	if err := c.route.SetOption(netlink.GetStrictCheck, true); err != nil {
		return nil, errors.Join(fmt.Errorf("netlink: strict checking (Linux 4.20): %w", err), c.Close())
	}
	return c, nil
}

const ioTimeout = 10 * time.Second // no answer of a kernel takes that long

func dial(protocol, netns int) (*netlink.Conn, error) {
	conn, err := netlink.Dial(protocol, &netlink.Config{NetNS: netns})
	if err != nil {
		return nil, fmt.Errorf("netlink: open a socket: %w", permission(err))
	}
	// Acknowledgements then say what the kernel refused.
	if err := conn.SetOption(netlink.ExtendedAcknowledge, true); err != nil {
		return nil, errors.Join(fmt.Errorf("netlink: extended acknowledgements (Linux 4.12): %w", err), conn.Close())
	}
	return conn, nil
}

// Close ends the connection.
func (c *Conn) Close() error { return errors.Join(c.nf.Close(), c.route.Close()) }

// dump sends a request and collects the payloads of the replies. A dump that
// somebody's change interrupted, or whose replies overflowed the socket, is
// errGeneration: everything is to be read again.
func dump(ctx context.Context, conn *netlink.Conn, typ uint16, payload []byte) ([]netlink.Message, error) {
	msgs, err := execute(ctx, conn, netlink.Message{
		Header: netlink.Header{Type: netlink.HeaderType(typ), Flags: netlink.Request | netlink.Dump},
		Data:   payload,
	})
	if errors.Is(err, unix.EINTR) || errors.Is(err, unix.ENOBUFS) {
		return nil, errGeneration
	}
	return msgs, err
}

// execute sends a request and collects the replies. The context is asked
// before, and not while the kernel answers: an answer half read would stand in
// the way of the next.
func execute(ctx context.Context, conn *netlink.Conn, m netlink.Message) ([]netlink.Message, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := conn.SetDeadline(time.Now().Add(ioTimeout)); err != nil {
		return nil, err
	}
	sent, err := conn.Send(m)
	if err != nil {
		return nil, permission(err)
	}
	for {
		msgs, err := conn.Receive()
		if err != nil {
			return nil, permission(err)
		}
		if len(msgs) == 0 || msgs[0].Header.Sequence == sent.Header.Sequence {
			return msgs, interrupted(msgs)
		} // else: late answers to a request that was given up
	}
}

func interrupted(msgs []netlink.Message) error {
	for _, m := range msgs {
		if m.Header.Flags&netlink.DumpInterrupted != 0 {
			return unix.EINTR
		}
	}
	return nil
}

// again reads until nobody changes meanwhile what is read, or somebody has done
// so for too long.
func again(ctx context.Context, read func() error) error {
	for start := time.Now(); ; {
		err := read()
		if !errors.Is(err, errGeneration) && !errors.Is(err, errUnknown) {
			return err
		}
		if time.Since(start) > patience {
			return fmt.Errorf("%w: %w", ErrChanged, err)
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
// with every commit of anyone.
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
		if a, err := payload(m); err == nil && a.has(unix.NFTA_GEN_ID) {
			return uint32(a.number(unix.NFTA_GEN_ID)), nil
		}
	}
	return 0, errors.New("nftables: the kernel told no generation")
}

// atOneGeneration reads what somebody's commit would change, and tells the
// generation at which it stood; where there was a commit, the error is
// errGeneration, whatever was half read.
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
	case before != after:
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
func payload(m netlink.Message) (attrs, error) {
	if len(m.Data) < nfgenLen {
		return nil, errors.New("nftables: a message is too short")
	}
	return decode(m.Data[nfgenLen:])
}
