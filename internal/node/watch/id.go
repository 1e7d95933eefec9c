// SPDX-License-Identifier: Apache-2.0

//go:build linux

package watch

import (
	"context"
	"errors"
	"fmt"

	"github.com/mdlayher/netlink"
	"github.com/weir-mesh/weir/internal/nl"
	"golang.org/x/sys/unix"
)

// Attributes of RTM_NEWNSID, see linux/net_namespace.h.
const (
	netnsaNSID = 1
	netnsaFD   = 3
)

const noID = ID(-1) // NETNSA_NSID_NOT_ASSIGNED

// ID is the id of the namespace that a descriptor names. One that has none is given one, without which
// nothing is heard of it. It is not for several goroutines at a time.
func (w *Watcher) ID(ctx context.Context, netns int) (ID, error) {
	id, err := w.id(ctx, netns)
	if err != nil || id != noID {
		return id, err
	}
	e := netlink.NewAttributeEncoder()
	e.Uint32(netnsaFD, uint32(netns))
	e.Int32(netnsaNSID, int32(noID)) // the kernel chooses
	payload, err := e.Encode()
	if err != nil {
		return 0, err
	}
	m := netlink.Message{Header: netlink.Header{Type: unix.RTM_NEWNSID, Flags: netlink.Request | netlink.Acknowledge}, Data: append(make([]byte, rtgenHeader), payload...)}
	if err := w.ask.Execute(ctx, m, func(netlink.Message) error { return nil }); err != nil && !errors.Is(err, unix.EEXIST) {
		return 0, fmt.Errorf("give the network namespace an id: %w", err)
	}
	id, err = w.id(ctx, netns)
	if err == nil && id == noID {
		err = errors.New("the network namespace has no id")
	}
	return id, err
}

func (w *Watcher) id(ctx context.Context, netns int) (ID, error) {
	e := netlink.NewAttributeEncoder()
	e.Uint32(netnsaFD, uint32(netns))
	payload, err := e.Encode()
	if err != nil {
		return 0, err
	}
	id := noID
	m := netlink.Message{Header: netlink.Header{Type: unix.RTM_GETNSID, Flags: netlink.Request}, Data: append(make([]byte, rtgenHeader), payload...)}
	err = w.ask.Execute(ctx, m, func(answer netlink.Message) error {
		if len(answer.Data) < rtgenHeader {
			return nl.ErrShort
		}
		a, err := nl.Decode(answer.Data[rtgenHeader:])
		if err == nil {
			id = ID(int32(a.Native32(netnsaNSID)))
		}
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("ask for the id of the network namespace: %w", err)
	}
	return id, nil
}
