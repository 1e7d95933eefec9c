package nl

import (
	"encoding/binary"
	"errors"
	"syscall"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// ErrShort means that a message or its attributes are cut short.
var ErrShort = errors.New("netlink: a message is cut short")

// AppendMessage appends a message as it is sent (struct nlmsghdr of
// linux/netlink.h), with its data in parts.
func AppendMessage(b []byte, h netlink.Header, data ...[]byte) []byte {
	length := unix.NLMSG_HDRLEN
	for _, d := range data {
		length += len(d)
	}
	b = binary.NativeEndian.AppendUint32(b, uint32(length))
	b = binary.NativeEndian.AppendUint16(b, uint16(h.Type))
	b = binary.NativeEndian.AppendUint16(b, uint16(h.Flags))
	b = binary.NativeEndian.AppendUint32(b, h.Sequence)
	b = binary.NativeEndian.AppendUint32(b, h.PID)
	for _, d := range data {
		b = append(b, d...)
	}
	return append(b, make([]byte, align(length)-length)...)
}

func align(n int) int { return (n + unix.NLMSG_ALIGNTO - 1) &^ (unix.NLMSG_ALIGNTO - 1) }

// Next takes the first message off a part. Its data is the part's.
func Next(part []byte) (m netlink.Message, rest []byte, err error) {
	if len(part) < unix.NLMSG_HDRLEN {
		return m, nil, ErrShort
	}
	length := binary.NativeEndian.Uint32(part)
	if length < unix.NLMSG_HDRLEN || uint64(length) > uint64(len(part)) {
		return m, nil, ErrShort
	}
	m.Header = netlink.Header{
		Length:   length,
		Type:     netlink.HeaderType(binary.NativeEndian.Uint16(part[4:])),
		Flags:    netlink.HeaderFlags(binary.NativeEndian.Uint16(part[6:])),
		Sequence: binary.NativeEndian.Uint32(part[8:]),
		PID:      binary.NativeEndian.Uint32(part[12:]),
	}
	m.Data = part[unix.NLMSG_HDRLEN:length:length]
	return m, part[min(align(int(length)), len(part)):], nil
}

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
	e.Message, e.Offset = extended(m)
	return e
}

// extended is what an extended acknowledgement says.
func extended(m netlink.Message) (message string, offset int) {
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
		at += align(int(refused))
	}
	const header = 4 // struct nlattr
	for b := m.Data[min(at, len(m.Data)):]; len(b) >= header; {
		length := int(binary.NativeEndian.Uint16(b))
		if length < header || length > len(b) {
			break
		}
		switch value := b[header:length]; binary.NativeEndian.Uint16(b[2:]) {
		case attrMessage:
			message = unix.ByteSliceToString(value)
		case attrOffset:
			if len(value) == 4 {
				offset = int(binary.NativeEndian.Uint32(value))
			}
		}
		b = b[min(align(length), len(b)):]
	}
	return message, offset
}
