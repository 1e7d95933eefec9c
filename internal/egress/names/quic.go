// SPDX-License-Identifier: Apache-2.0

package names

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"errors"
)

// version is what keys of Initials are made of (RFC 9001, section 5.2; RFC 9369, section 3.3).
type version struct {
	initial      byte // the two bits of the packet's type
	salt, prefix string
}

var versions = map[uint32]version{
	1:          {0, "\x38\x76\x2c\xf7\xf5\x59\x34\xb3\x4d\x17\x9a\xe6\xa4\xc8\x0c\xad\xcc\xbb\x7f\x0a", "quic "},
	0x6b3343cf: {1, "\x0d\xed\xe3\xde\xf7\x00\xa6\xdb\x81\x93\x81\xbe\x6e\x26\x9d\xcb\xf9\xbd\x2e\xd9", "quicv2 "},
}

var errNoInitial = errors.New("not an Initial of QUIC")

// initial is the head of an Initial packet.
type initial struct {
	version
	destination []byte // connection id
	packet      []byte // all of it
	number      int    // where its packet number begins
}

// nextInitial cuts the first packet off a datagram.
func nextInitial(b []byte) (p initial, rest []byte, err error) {
	const head = 7 // the first byte, the version and the lengths of both ids
	if len(b) < head || b[0]&0x80 == 0 {
		return p, nil, errNoInitial
	}
	v, known := versions[binary.BigEndian.Uint32(b[1:])]
	if !known || b[0]>>4&3 != v.initial {
		return p, nil, errNoInitial
	}
	r := reader{b: b, at: 5}
	p.version, p.destination = v, r.bytes(int(r.byte()))
	r.bytes(int(r.byte()))   // source connection id
	r.bytes(int(r.varint())) // token
	length := int(r.varint())
	p.number = r.at
	r.bytes(length)
	const mostID, sample = 20, 20 // bytes behind the start of the packet number
	if r.bad || len(p.destination) > mostID || p.number+sample > r.at {
		return p, nil, errNoInitial
	}
	p.packet = b[:r.at]
	return p, b[r.at:], nil
}

// open decrypts the packet with the keys that a client's first connection id makes.
func (p initial) open(first []byte) ([]byte, error) {
	key, iv, hp, err := p.keys(first)
	if err != nil {
		return nil, err
	}
	mask, err := aes.NewCipher(hp)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	packet := append([]byte(nil), p.packet...)
	var hidden [aes.BlockSize]byte
	mask.Encrypt(hidden[:], packet[p.number+4:p.number+4+aes.BlockSize])
	packet[0] ^= hidden[0] & 0x0f
	length := int(packet[0]&3) + 1
	nonce := append([]byte(nil), iv...)
	for i := range length {
		packet[p.number+i] ^= hidden[1+i]
		nonce[len(nonce)-length+i] ^= packet[p.number+i]
	}
	at := p.number + length
	return gcm.Open(nil, nonce, packet[at:], packet[:at])
}

// keys are those of what a client sends in Initials to its first connection id.
func (v version) keys(first []byte) (key, iv, hp []byte, err error) {
	secret, err := hkdf.Extract(sha256.New, first, []byte(v.salt))
	if err != nil {
		return nil, nil, nil, err
	}
	client := expand(secret, "client in", sha256.Size)
	return expand(client, v.prefix+"key", 16), expand(client, v.prefix+"iv", 12), expand(client, v.prefix+"hp", 16), nil
}

// expand is HKDF-Expand-Label of RFC 8446, section 7.1, without a context.
func expand(secret []byte, label string, length int) []byte {
	label = "tls13 " + label
	info := binary.BigEndian.AppendUint16(nil, uint16(length))
	info = append(append(append(info, byte(len(label))), label...), 0)
	out, err := hkdf.Expand(sha256.New, secret, string(info), length)
	if err != nil {
		panic(err) // only a length beyond 255 digests fails
	}
	return out
}

// cryptoFrames visits what CRYPTO frames of an Initial hold (RFC 9000, section 12.4).
func cryptoFrames(b []byte, visit func(offset int, data []byte)) error {
	r := reader{b: b}
	for r.at < len(b) && !r.bad {
		switch typ := r.byte(); typ {
		case 0, 1: // PADDING, PING
		case 2, 3: // ACK
			r.varint()
			r.varint()
			ranges := r.varint()
			r.varint()
			for i := uint64(0); i < 2*ranges && !r.bad; i++ {
				r.varint()
			}
			for i := 0; typ == 3 && i < 3; i++ {
				r.varint()
			}
		case 6:
			offset := r.varint()
			data := r.bytes(int(r.varint()))
			if !r.bad && offset <= maxHello {
				visit(int(offset), data)
			}
		default:
			return errNoInitial
		}
	}
	if r.bad {
		return errNoInitial
	}
	return nil
}

// reader reads one thing after the other, and remembers that one was not there.
type reader struct {
	b   []byte
	at  int
	bad bool
}

func (r *reader) bytes(n int) []byte {
	if r.bad || n < 0 || n > len(r.b)-r.at {
		r.bad = true
		return nil
	}
	r.at += n
	return r.b[r.at-n : r.at]
}

func (r *reader) byte() byte {
	if b := r.bytes(1); !r.bad {
		return b[0]
	}
	return 0
}

// varint is a number of RFC 9000, section 16.
func (r *reader) varint() uint64 {
	first := r.byte()
	v := uint64(first & 0x3f)
	for _, b := range r.bytes(1<<(first>>6) - 1) {
		v = v<<8 | uint64(b)
	}
	if r.bad {
		return 0
	}
	return v
}
