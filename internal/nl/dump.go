// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nl

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

var (
	// ErrChanged means that what is read was changed meanwhile: it must be read again.
	ErrChanged = errors.New("it changed meanwhile")

	// ErrNotPermitted means that CAP_NET_ADMIN is missing in the user namespace
	// that owns the network namespace.
	ErrNotPermitted = errors.New("not permitted: this needs CAP_NET_ADMIN in the network namespace")
)

// Permission says of the errno of a missing capability that it is ErrNotPermitted.
func Permission(err error) error {
	if errors.Is(err, unix.EPERM) && !errors.Is(err, ErrNotPermitted) {
		return fmt.Errorf("%w: %w", ErrNotPermitted, err)
	}
	return err
}

// Dump sends a request and visits the replies, whose data holds until the visit ends.
// The error is ErrChanged where a change by another process interrupted the dump or the replies
// overflowed the socket, and ErrNotPermitted where the capability is missing.
func Dump(ctx context.Context, s *Socket, typ uint16, payload []byte, visit func(netlink.Message) error) error {
	err := s.Execute(ctx, netlink.Message{
		Header: netlink.Header{Type: netlink.HeaderType(typ), Flags: netlink.Request | netlink.Dump},
		Data:   payload,
	}, visit)
	if errors.Is(err, unix.EINTR) || errors.Is(err, unix.ENOBUFS) || errors.Is(err, ErrTruncated) {
		return ErrChanged
	}
	return Permission(err)
}

// Collect is a visit that keeps each message.
func Collect(into *[]netlink.Message) func(netlink.Message) error {
	return func(m netlink.Message) error {
		m.Data = bytes.Clone(m.Data)
		*into = append(*into, m)
		return nil
	}
}
