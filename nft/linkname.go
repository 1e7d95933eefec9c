// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nft

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/mdlayher/netlink"
	"github.com/weir-mesh/weir/internal/nl"
	"golang.org/x/sys/unix"
)

// linkIndex is the index of the interface of that name; unix.ENODEV where there is none.
func (c *Conn) linkIndex(ctx context.Context, name string) (index uint32, err error) {
	request := attribute{typ: unix.IFLA_IFNAME, data: append([]byte(name), 0)}.appendTo(make([]byte, unix.SizeofIfInfomsg))
	err = c.link(ctx, request, name, func(m netlink.Message) error {
		index = binary.NativeEndian.Uint32(m.Data[4:8])
		return nil
	})
	return index, err
}

// linkName is the name of the interface with that index; unix.ENODEV where there is none.
func (c *Conn) linkName(ctx context.Context, index uint32) (name string, err error) {
	request := make([]byte, unix.SizeofIfInfomsg)
	binary.NativeEndian.PutUint32(request[4:], index)
	err = c.link(ctx, request, fmt.Sprintf("interface %d", index), func(m netlink.Message) error {
		a, err := nl.Decode(m.Data[unix.SizeofIfInfomsg:])
		name = a.Text(unix.IFLA_IFNAME)
		return err
	})
	return name, err
}

func (c *Conn) link(ctx context.Context, request []byte, what string, found func(netlink.Message) error) error {
	msgs, err := execute(ctx, c.route, netlink.Message{Header: netlink.Header{Type: unix.RTM_GETLINK, Flags: netlink.Request}, Data: request})
	if err != nil {
		return fmt.Errorf("look at %s: %w", what, err)
	}
	for _, m := range msgs {
		if len(m.Data) < unix.SizeofIfInfomsg {
			return nl.ErrShort
		}
		if err := found(m); err != nil {
			return err
		}
	}
	return nil
}
