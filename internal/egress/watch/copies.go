// SPDX-License-Identifier: Apache-2.0

//go:build linux

package watch

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/mdlayher/netlink"
	"github.com/weir-mesh/weir/internal/nl"
	"golang.org/x/sys/unix"
)

// errGroupTaken means that another program reads the group: one reader has all copies.
var errGroupTaken = errors.New("another program reads this group of NFNETLINK_LOG: is another watch at work in this network namespace?")

// copies are read from a group of NFNETLINK_LOG.
type copies struct {
	socket *nl.Socket
	next   uint32 // sequence number: the kernel begins at 0
	lost   atomic.Uint64
	full   atomic.Bool // some were lost since the last number
}

// Lost is how many copies the kernel had no room for, as far as is known.
func (c *copies) Lost() uint64 {
	if c.full.Load() {
		return c.lost.Load() + 1
	}
	return c.lost.Load()
}

// Of linux/netfilter/nfnetlink_log.h.
const (
	msgPacket, msgConfig = 0, 1

	configCommand, configMode, configBuffer, configTimeout, configThreshold, configFlags = 1, 2, 3, 4, 5, 6

	commandBind  = 1
	copyPacket   = 2
	flagSequence = 1
	attrPayload  = 9
	attrUser     = 11
	attrSequence = 12
)

const (
	copyRoom    = 8 << 20 // bytes of copies that are not read yet
	kernelRoom  = 1 << 17 // of copies that the kernel gathers before it sends them
	largestCopy = 1 << 17 // of one that it sends by itself, with what is told of it
	copyWait    = 10      // hundredths of a second that it gathers
	copiesASend = 64
	wholePacket = 0xffff
)

// openCopies begins to read the group in the namespace that the descriptor names.
func openCopies(netns int, group uint16) (*copies, error) {
	sockets, err := nl.Open(netns, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, err
	}
	c := &copies{socket: sockets[0]}
	mode := binary.BigEndian.AppendUint32(nil, wholePacket)
	mode = append(mode, copyPacket, 0) // struct nfulnl_msg_config_mode
	for _, set := range []struct {
		typ  uint16
		data []byte
	}{
		{configCommand, []byte{commandBind}},
		{configMode, mode},
		{configBuffer, binary.BigEndian.AppendUint32(nil, kernelRoom)},
		{configTimeout, binary.BigEndian.AppendUint32(nil, copyWait)},
		{configThreshold, binary.BigEndian.AppendUint32(nil, copiesASend)},
		{configFlags, binary.BigEndian.AppendUint16(nil, flagSequence)},
	} {
		if err := c.configure(group, set.typ, set.data); err != nil {
			return nil, errors.Join(fmt.Errorf("read group %d of NFNETLINK_LOG: %w", group, err), c.close())
		}
	}
	c.socket.Expect(kernelRoom + largestCopy)
	return c, c.socket.Room(copyRoom)
}

func (c *copies) configure(group, typ uint16, data []byte) error {
	attribute, err := netlink.MarshalAttributes([]netlink.Attribute{{Type: typ, Data: data}})
	if err != nil {
		return err
	}
	err = c.socket.Execute(context.Background(), netlink.Message{
		Header: netlink.Header{Type: unix.NFNL_SUBSYS_ULOG<<8 | msgConfig, Flags: netlink.Request | netlink.Acknowledge},
		Data:   append([]byte{unix.AF_UNSPEC, 0, byte(group >> 8), byte(group)}, attribute...),
	}, func(netlink.Message) error { return nil })
	if errors.Is(err, unix.EBUSY) || errors.Is(err, unix.EPERM) && group != unusedGroup && c.permitted() {
		return errGroupTaken
	}
	return nl.Permission(err)
}

// unusedGroup is one that nobody reads, or that the kernel refuses to let go of.
const unusedGroup = 65535

// permitted reports whether groups may be configured here: the errno of one that another
// program reads is that of a missing capability.
func (c *copies) permitted() bool {
	const unbind = 2
	return errors.Is(c.configure(unusedGroup, configCommand, []byte{unbind}), unix.ENODEV)
}

// read reads until the context ends, and visits each copy from its network header on, with
// the user who sent it, "" where it has none. What the visit is given holds until it returns.
func (c *copies) read(ctx context.Context, visit func(packet []byte, user string)) error {
	for ctx.Err() == nil {
		part, err := c.socket.Receive(unix.MSG_DONTWAIT)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			select {
			case <-ctx.Done():
			case <-time.After(copyPause):
			}
			continue
		case errors.Is(err, unix.ENOBUFS), errors.Is(err, nl.ErrTruncated): // the gap in the numbers says how many
			c.full.Store(true)
			continue
		case err != nil:
			return fmt.Errorf("read copies of packets: %w", err)
		}
		if err := c.messages(part, visit); err != nil {
			return err
		}
	}
	return nil
}

// copyPause is how long the reader leaves copies where they are: there is room for more than
// come in that time.
const copyPause = 20 * time.Millisecond

func (c *copies) messages(part []byte, visit func([]byte, string)) error {
	for len(part) > 0 {
		m, rest, err := nl.Next(part)
		if err != nil {
			return err
		}
		part = rest
		const generic = 4 // struct nfgenmsg
		if m.Header.Type != unix.NFNL_SUBSYS_ULOG<<8|msgPacket || len(m.Data) < generic {
			continue
		}
		var packet []byte
		user := ""
		err = nl.Walk(m.Data[generic:], func(typ uint16, data []byte) {
			switch typ {
			case attrSequence:
				c.count(uint32(nl.BigEndian(data)))
			case attrPayload:
				packet = data
			case attrUser:
				user = strconv.FormatUint(nl.BigEndian(data), 10)
			}
		})
		if err != nil {
			return err
		}
		visit(packet, user)
	}
	return nil
}

// count finds what was lost by the gaps in the numbers.
func (c *copies) count(number uint32) {
	c.lost.Add(uint64(number - c.next))
	c.full.Store(false)
	c.next = number + 1
}

func (c *copies) close() error { return nl.Close(c.socket) }
