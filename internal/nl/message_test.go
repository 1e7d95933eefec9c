// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nl

import (
	"encoding/binary"
	"errors"
	"testing"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

const own = 7 // the sequence number of the request

func message(typ, flags uint16, sequence uint32, data ...byte) []byte {
	return AppendMessage(nil, netlink.Header{Type: netlink.HeaderType(typ), Flags: netlink.HeaderFlags(flags), Sequence: sequence}, data)
}

func errno(e unix.Errno, more ...byte) []byte {
	return append(binary.NativeEndian.AppendUint32(nil, uint32(-int32(e))), more...)
}

func join(messages ...[]byte) (part []byte) {
	for _, m := range messages {
		part = append(part, m...)
	}
	return part
}

// extendedText is what an acknowledgement with a message and an offset holds
// after the error number and the refused header.
func extendedText() []byte {
	b := message(99, 0, own)
	host := binary.NativeEndian
	b = host.AppendUint16(host.AppendUint16(b, 9), 1)
	b = append(b, 'o', 'd', 'd', '!', 0, 0, 0, 0)
	b = host.AppendUint16(host.AppendUint16(b, 8), 2)
	return host.AppendUint32(b, 20)
}

func TestRead(t *testing.T) {
	const data = 42
	full := message(data, unix.NLM_F_MULTI, own, 1)
	for _, tt := range []struct {
		why     string
		multi   bool
		part    []byte
		visited int
		ended   bool
		want    error
	}{
		{"the one message that answers is the end", false, message(data, 0, own, 1), 1, true, nil},
		{"a part of a dump is not an end", true, join(full, full), 2, false, nil},
		{"a dump ends with its end", true, join(full, message(unix.NLMSG_DONE, unix.NLM_F_MULTI, own, errno(0)...)), 1, true, nil},
		{"an end without a number is not an error", true, message(unix.NLMSG_DONE, unix.NLM_F_MULTI, own), 0, true, nil},
		{"a dump can end with an error", true, join(full, message(unix.NLMSG_DONE, unix.NLM_F_MULTI, own, errno(unix.EMSGSIZE)...)), 1, true, unix.EMSGSIZE},
		{"an acknowledgement is an end", true, message(unix.NLMSG_ERROR, 0, own, errno(0)...), 0, true, nil},
		{"a refusal", false, message(unix.NLMSG_ERROR, 0, own, errno(unix.ENOENT)...), 0, true, unix.ENOENT},
		{"a refusal without a number", false, message(unix.NLMSG_ERROR, 0, own), 0, true, ErrShort},
		{"a late answer to another request", false, join(message(data, 0, own-1, 1), message(data, 0, own, 2)), 1, true, nil},
		{"a late refusal of another request", false, message(unix.NLMSG_ERROR, 0, own-1, errno(unix.EPERM)...), 0, false, nil},
		{"a late end of another dump", true, join(message(unix.NLMSG_DONE, unix.NLM_F_MULTI, own-1), full), 1, false, nil},
		{"what is dumped was changed", true, join(message(data, unix.NLM_F_MULTI|unix.NLM_F_DUMP_INTR, own), message(unix.NLMSG_DONE, unix.NLM_F_MULTI, own)), 1, true, unix.EINTR},
		{"the end alone says so", true, join(full, message(unix.NLMSG_DONE, unix.NLM_F_MULTI|unix.NLM_F_DUMP_INTR, own)), 1, true, unix.EINTR},
		{"a header that is cut short", true, full[:10], 0, false, ErrShort},
		{"a message that is cut short", true, full[:len(full)-4], 0, false, ErrShort},
		{"a length that leaves the header out", true, append([]byte{4, 0, 0, 0}, full[4:]...), 0, false, ErrShort},
	} {
		visited := 0
		a := answer{sequence: own, multi: tt.multi, visit: func(netlink.Message) error { visited++; return nil }}
		err := a.read(tt.part)
		if visited != tt.visited || a.ended != tt.ended || !errors.Is(err, tt.want) {
			t.Errorf("%s: %d visited, ended %t, %v; want %d, %t, %v", tt.why, visited, a.ended, err, tt.visited, tt.ended, tt.want)
		}
	}
}

func TestRefusalTellsWhy(t *testing.T) {
	for _, tt := range []struct {
		why   string
		flags uint16
		data  []byte
		want  string
	}{
		{"the kernel only gives a number", 0, errno(unix.EINVAL), "netlink receive: invalid argument"},
		{"it says what and where", unix.NLM_F_ACK_TLVS, errno(unix.EINVAL, extendedText()...), `netlink receive: invalid argument, offset: 20, message: "odd!"`},
		{"the words are cut short", unix.NLM_F_ACK_TLVS, errno(unix.EINVAL, extendedText()[:22]...), "netlink receive: invalid argument"},
	} {
		a := answer{sequence: own}
		if err := a.read(message(unix.NLMSG_ERROR, tt.flags, own, tt.data...)); err == nil || err.Error() != tt.want {
			t.Errorf("%s: %v, want %s", tt.why, err, tt.want)
		}
	}
}

// FuzzRead reads parts that no kernel would send: nothing panics, and what is
// visited lies in the part.
func FuzzRead(f *testing.F) {
	f.Add(message(unix.NLMSG_ERROR, unix.NLM_F_ACK_TLVS, own, errno(unix.EINVAL, extendedText()...)...), true)
	f.Add(join(message(42, 2, own, 1, 2, 3), message(unix.NLMSG_DONE, 2, own)), false)
	f.Fuzz(func(t *testing.T, part []byte, multi bool) {
		visited := 0
		a := answer{sequence: own, multi: multi, visit: func(m netlink.Message) error {
			visited += unix.NLMSG_HDRLEN + len(m.Data)
			return nil
		}}
		if err := a.read(part); err == nil && visited > len(part) {
			t.Errorf("%d bytes were visited of %d", visited, len(part))
		}
	})
}
