// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nft

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/mdlayher/netlink"
	"github.com/weir-mesh/weir/internal/escape"
	"github.com/weir-mesh/weir/internal/nl"
	"github.com/weir-mesh/weir/internal/reserved"
	"golang.org/x/sys/unix"
)

// watch listens to what others commit, so that a commit to tables that are
// nothing to a verb does not have it start over. It begins with the first
// commit of another's that a verb meets: most meet none.
type watch struct {
	socket   *nl.Socket
	own      uint32 // the port of the socket that this program commits by
	names    [2]string
	begun    uint32 // the generation from which on everything was heard
	heard    uint32 // the last generation that was told
	touched  uint32 // the last generation that changed a table of names, a lock or a tag
	touching bool   // the commit that is being told changes one
	lost     bool   // something was not heard
	writer   string // who committed last, "" where it is not known
}

const (
	watchRoom  = 4 << 20 // bytes of notifications that wait
	watchPause = 100 * time.Microsecond
	// hearingTime is how long the notifications of a commit may take. The kernel
	// sends them once the generation has moved, and those of a large commit slowly.
	hearingTime = 100 * time.Millisecond
)

// beginWatch listens from now on. Where that cannot be had, every commit of
// another's counts as one to our tables.
func (c *Conn) beginWatch(ctx context.Context, table string) {
	if c.watch != nil && !c.watch.lost {
		return
	}
	c.lastWriter()
	c.closeWatch()
	own, err := c.nf.Port()
	if err != nil {
		return
	}
	socket, err := c.nf.Sibling(unix.NETLINK_NETFILTER)
	if err != nil {
		return
	}
	w := &watch{socket: socket, own: own, names: [2]string{table, reserved.Next(table)}}
	if err = socket.Join(unix.NFNLGRP_NFTABLES, watchRoom); err == nil {
		w.begun, err = c.generation(ctx)
	}
	if err != nil {
		_ = nl.Close(socket)
		return
	}
	w.heard, w.touched = w.begun, w.begun
	c.watch = w
}

// endWatch ends what a verb listened to.
func (c *Conn) endWatch() {
	c.closeWatch()
	c.last = ""
}

func (c *Conn) closeWatch() {
	if c.watch != nil {
		_ = nl.Close(c.watch.socket)
		c.watch = nil
	}
}

// quiet reports whether it is known that from one generation to another no program
// else changed what the watch is about.
func (c *Conn) quiet(ctx context.Context, from, to uint32) bool {
	w := c.watch
	return w != nil && !w.lost && !later(w.begun, from) && w.hear(ctx, to) && !later(w.touched, from)
}

// later reports whether generation a came after b: they wrap around.
func later(a, b uint32) bool { return int32(a-b) > 0 }

// hear takes the notifications in up to those of a generation.
func (w *watch) hear(ctx context.Context, generation uint32) bool {
	for end := time.Now().Add(hearingTime); later(generation, w.heard); {
		err := w.receive()
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded) && time.Now().Before(end):
			if pause(ctx, watchPause) != nil {
				return false
			}
		case err != nil:
			w.lost = true
			return false
		}
	}
	return true
}

// receive takes in what is told next, if anything waits.
func (w *watch) receive() error {
	part, err := w.socket.Receive(unix.MSG_DONTWAIT)
	for err == nil && len(part) > 0 {
		var m netlink.Message
		if m, part, err = nl.Next(part); err == nil {
			w.take(m)
		}
	}
	return err
}

// take takes one notification in. Those of a commit end with its generation.
func (w *watch) take(m netlink.Message) {
	a, err := payload(m)
	if err != nil {
		return
	}
	if m.Header.Type != nfType(unix.NFT_MSG_NEWGEN) {
		w.touching = w.touching || m.Header.PID != w.own && w.concerns(m, a)
		return
	}
	w.heard = uint32(a.Number(unix.NFTA_GEN_ID))
	if w.touching {
		w.touched, w.touching = w.heard, false
	}
	if m.Header.PID != w.own {
		w.writer = fmt.Sprintf("%s, PID %d", escape.Text(a.Text(unix.NFTA_GEN_PROC_NAME)), a.Number(unix.NFTA_GEN_PROC_PID))
	}
}

// concerns reports whether a change is of a table of the watch's, of the lock, or
// of a tag: another table of weir's may share our routing. In every message of
// nftables' the table is the first attribute, and a set the second.
func (w *watch) concerns(m netlink.Message, a nl.Attributes) bool {
	if m.Data[0] != unix.NFPROTO_INET {
		return false
	}
	switch table := a.Text(unix.NFTA_SET_TABLE); table {
	case w.names[0], w.names[1], reserved.Lock:
		return true
	}
	switch m.Header.Type {
	case nfType(unix.NFT_MSG_NEWSET), nfType(unix.NFT_MSG_DELSET), nfType(unix.NFT_MSG_NEWSETELEM), nfType(unix.NFT_MSG_DELSETELEM):
		return a.Text(unix.NFTA_SET_NAME) == reserved.Tag
	}
	return false
}

// kept is the error of a verb that others kept from its end.
func (c *Conn) kept(since time.Time, err error) error {
	return &ChangedError{After: time.Since(since), Writer: c.lastWriter(), Err: err}
}

// interrupted is the end of a verb's context while others kept it from its end.
func (c *Conn) interrupted(since time.Time, err error) error {
	if c.lastWriter() == "" {
		return err
	}
	return c.kept(since, err)
}

// maxLate is how many parts are read, at the end of a verb, for who committed last.
const maxLate = 1 << 14

// lastWriter is who committed last, "" where that was not heard.
func (c *Conn) lastWriter() string {
	if c.watch == nil {
		return c.last
	}
	for range maxLate {
		err := c.watch.receive()
		if err != nil && !errors.Is(err, unix.ENOBUFS) { // that some are lost is no matter here
			break
		}
	}
	c.last = cmp.Or(c.watch.writer, c.last)
	return c.last
}
