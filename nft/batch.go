// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nft

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"syscall"

	"github.com/mdlayher/netlink"
	"github.com/weir-mesh/weir/internal/nl"
	"golang.org/x/sys/unix"
)

// batch is a list of changes that the kernel commits all or none.
type batch struct{ changes []change }

// change is one message of a batch, with what it is about in words.
type change struct {
	typ   int
	flags netlink.HeaderFlags
	where string
	kind  string   // of the object, for hints
	exprs []string // the kernel's names of a rule's expressions
	data  []byte
}

func (b *batch) add(c change) { b.changes = append(b.changes, c) }

// commit sends the batch, guarded with the generation, unless that is 0: if
// another commit came since, nothing happens and the error is errGeneration.
// errUnknown means that the outcome must be read back.
func (c *Conn) commit(ctx context.Context, b *batch, generation uint32) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	first := c.nf.Sequence(len(b.changes) + 2)
	text := b.bytes(first, generation)
	if err := c.nf.GrowSendBuffer(len(text)); err != nil {
		return err
	}
	if err := c.nf.Send(text); err != nil {
		if errors.Is(err, unix.EMSGSIZE) {
			return fmt.Errorf("the ruleset does not fit one message of this socket (raise net.core.wmem_max, or run outside a user namespace): %w", err)
		}
		return nl.Permission(err)
	}
	return c.outcome(b, first)
}

var (
	errGeneration = nl.ErrChanged
	errUnknown    = errors.New("the kernel's answer was lost")
	errOwned      = fmt.Errorf("another socket owns the table: %w", errGeneration)
)

// bytes are the batch as it is sent, in messages that are numbered from first on.
func (b *batch) bytes(first, generation uint32) []byte {
	size := 0
	for _, ch := range b.changes {
		size += unix.NLMSG_HDRLEN + nfgenLen + len(ch.data)
	}
	const edges = 128 // the messages around them take less
	out := make([]byte, 0, size+edges)
	sequence := first
	add := func(typ netlink.HeaderType, flags netlink.HeaderFlags, parts ...[]byte) {
		out = nl.AppendMessage(out, netlink.Header{Type: typ, Flags: netlink.Request | flags, Sequence: sequence}, parts...)
		sequence++
	}
	guard := encode(func(ae *netlink.AttributeEncoder) { ae.Uint32(nfnlBatchGenID, generation) }) // 0: none
	add(unix.NFNL_MSG_BATCH_BEGIN, 0, nfgen(unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES), guard)
	header := nfgen(unix.NFPROTO_INET, 0)
	for i, ch := range b.changes {
		flags := ch.flags
		if i == len(b.changes)-1 {
			flags |= netlink.Acknowledge // one answer, after the commit, is enough
		}
		add(nfType(ch.typ), flags, header, ch.data)
	}
	add(unix.NFNL_MSG_BATCH_END, 0, nfgen(unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES))
	return out
}

// outcome reads the answers to a batch, which are all there once it was sent:
// an error for each message that the kernel refused, in order, and an
// acknowledgement of the last if that one was well. None is left for the next
// request to stumble over.
func (c *Conn) outcome(b *batch, first uint32) error {
	answers, failure := c.answers()
	last := first + uint32(len(b.changes))
	for _, a := range answers {
		at := a.Header.Sequence - first
		if a.Header.Type != unix.NLMSG_ERROR || at > last-first+1 || len(a.Data) < 4 {
			continue // not an answer to this batch
		}
		errno := syscall.Errno(-int32(binary.NativeEndian.Uint32(a.Data)))
		switch {
		case errno == unix.ERESTART:
			return errGeneration
		case errno != 0 && (at == 0 || at > last-first):
			return fmt.Errorf("commit: %w", nl.Permission(errno))
		case errno != 0:
			return b.changes[at-1].rejected(errno, a)
		case a.Header.Sequence == last:
			return nil
		}
	}
	return fmt.Errorf("%w: %w", errUnknown, failure)
}

// answers are the messages that wait on the socket, and what ended them.
func (c *Conn) answers() (msgs []netlink.Message, end error) {
	keep := nl.Collect(&msgs)
	for end == nil || errors.Is(end, unix.ENOBUFS) || errors.Is(end, nl.ErrTruncated) {
		var part []byte
		part, end = c.nf.Receive(unix.MSG_DONTWAIT)
		for end == nil && len(part) > 0 {
			var m netlink.Message
			if m, part, end = nl.Next(part); end == nil {
				end = keep(m)
			}
		}
	}
	return msgs, end
}

func (ch change) rejected(errno syscall.Errno, answer netlink.Message) error {
	if errno == unix.EPERM { // a missing capability is told of the whole batch
		return errOwned
	}
	what := ch.kind
	if i, ok := ch.badExpression(answer); ok {
		what = ch.exprs[i]
	} else if len(ch.exprs) > 0 {
		what = ch.suspect()
	}
	return &RejectedError{Where: ch.where, Err: errno, Hint: hint(errno, what)}
}

// badExpression is the expression that the kernel's extended acknowledgement
// points at (NLMSGERR_ATTR_OFFS).
func (ch change) badExpression(answer netlink.Message) (int, bool) {
	_, offset := nl.Extended(answer)
	if len(ch.exprs) == 0 || offset == 0 {
		return 0, false
	}
	at := offset - unix.NLMSG_HDRLEN - nfgenLen
	return expressionAt(ch.data, at)
}

// suspect is the expression that a kernel is likeliest to lack: the last that
// is not built in.
func (ch change) suspect() string {
	for i := len(ch.exprs) - 1; i >= 0; i-- {
		if option := features[ch.exprs[i]]; option != "" && option != "CONFIG_NF_TABLES" {
			return ch.exprs[i]
		}
	}
	return ch.kind
}

// expressionAt is the index of the expression of a rule's attributes that
// spans the byte offset.
func expressionAt(data []byte, at int) (int, bool) {
	for pos := 0; pos+nl.AttributeHeader <= len(data); {
		length := int(binary.NativeEndian.Uint16(data[pos:]))
		typ := binary.NativeEndian.Uint16(data[pos+2:]) &^ (unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER)
		if length < nl.AttributeHeader {
			return 0, false
		}
		if typ != unix.NFTA_RULE_EXPRESSIONS {
			pos += nl.Align(length)
			continue
		}
		inner, end := pos+nl.AttributeHeader, min(pos+length, len(data))
		for i := 0; inner+nl.AttributeHeader <= end; i++ {
			length := int(binary.NativeEndian.Uint16(data[inner:]))
			if length < nl.AttributeHeader {
				return 0, false
			}
			if at >= inner && at < inner+length {
				return i, true
			}
			inner += nl.Align(length)
		}
		return 0, false
	}
	return 0, false
}
