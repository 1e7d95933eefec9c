// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nl

import (
	"encoding/binary"
	"syscall"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// answer is what was read of the answer to one request.
type answer struct {
	sequence    uint32
	multi       bool // it ends with an end or an acknowledgement of its own
	visit       func(netlink.Message) error
	interrupted bool
	ended       bool
}

// read takes a part in. Late answers to earlier requests are passed over.
func (a *answer) read(part []byte) error {
	for len(part) > 0 {
		m, rest, err := Next(part)
		if err != nil {
			return err
		}
		part = rest
		if m.Header.Sequence != a.sequence || m.Header.Type == unix.NLMSG_NOOP {
			continue
		}
		a.interrupted = a.interrupted || m.Header.Flags&netlink.DumpInterrupted != 0
		if m.Header.Type == unix.NLMSG_ERROR || m.Header.Type == unix.NLMSG_DONE {
			a.ended = true
			if err := refusal(m); err != nil {
				return err
			}
			return a.end()
		}
		if err := a.visit(m); err != nil {
			return err
		}
		if !a.multi {
			a.ended = true
			return a.end()
		}
	}
	return nil
}

func (a *answer) end() error {
	if a.interrupted {
		return opError("receive", unix.EINTR)
	}
	return nil
}

// refusal is the error that an NLMSG_ERROR or an NLMSG_DONE tells, with what the
// kernel says of it (struct nlmsgerr and enum nlmsgerr_attrs of linux/netlink.h).
func refusal(m netlink.Message) error {
	if len(m.Data) < 4 {
		if m.Header.Type == unix.NLMSG_DONE {
			return nil
		}
		return ErrShort
	}
	errno := syscall.Errno(-int32(binary.NativeEndian.Uint32(m.Data)))
	if errno == 0 {
		return nil
	}
	e := &netlink.OpError{Op: "receive", Err: errno, Sequence: m.Header.Sequence}
	e.Message, e.Offset = Extended(m)
	return e
}

// Extended is what an extended acknowledgement says: a text, and at which byte of the
// refused message, its header included, is what the kernel refused; "" and 0 where it
// does not say (NLMSGERR_ATTR_MSG and NLMSGERR_ATTR_OFFS).
func Extended(m netlink.Message) (message string, offset int) {
	const attrMessage, attrOffset = 1, 2
	if m.Header.Flags&unix.NLM_F_ACK_TLVS == 0 {
		return "", 0
	}
	at := 4
	if m.Header.Type == unix.NLMSG_ERROR { // the header of what is refused follows, or all of it
		if len(m.Data) < at+unix.NLMSG_HDRLEN {
			return "", 0
		}
		refused := uint64(binary.NativeEndian.Uint32(m.Data[at:]))
		if m.Header.Flags&unix.NLM_F_CAPPED != 0 {
			refused = unix.NLMSG_HDRLEN
		}
		if refused > uint64(len(m.Data)-at) {
			return "", 0
		}
		at += Align(int(refused))
	}
	a, _ := Decode(m.Data[min(at, len(m.Data)):]) // what stands before the cut holds
	return Text(a.Take(attrMessage)), int(a.Native32(attrOffset))
}
