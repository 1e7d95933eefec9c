// SPDX-License-Identifier: Apache-2.0

package names

import (
	"bytes"
	"encoding/binary"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// FuzzInitial reads datagrams of any bytes, and Initials that hold any frames: what was sealed
// comes out again, and frames that cannot be read give no name.
func FuzzInitial(f *testing.F) {
	message := helloOf(f, "q.example")[5:]
	f.Add(sealed(f, 1, []byte("12345678"), 0, cryptoFrame(0, message)), cryptoFrame(0, message), uint16(0), true)
	f.Add([]byte{0xc0, 0, 0, 0, 1, 0, 0, 0, 0}, []byte{2, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0}, uint16(9), false)
	f.Add([]byte{0xd0, 0x6b, 0x33, 0x43, 0xcf, 20}, []byte{6, 0x80, 0xff, 0xff, 0xff, 1, 0}, uint16(1), false)
	f.Fuzz(func(t *testing.T, datagram, frames []byte, number uint16, first bool) {
		for rest := datagram; len(rest) > 0; {
			p, more, err := nextInitial(rest)
			if err != nil {
				break
			}
			if len(more) >= len(rest) || len(p.packet)+len(more) != len(rest) {
				t.Fatalf("%d bytes: a packet of %d, %d are left", len(rest), len(p.packet), len(more))
			}
			_, _ = p.open(p.destination)
			rest = more
		}
		version := uint32(1)
		if !first {
			version = 0x6b3343cf
		}
		const most = 1 << 13
		if len(frames) < 4 || len(frames) > most {
			return
		}
		id := []byte("client's")
		p, rest, err := nextInitial(sealed(t, version, id, number, frames))
		if err != nil || len(rest) > 0 || !bytes.Equal(p.destination, id) {
			t.Fatalf("an Initial of %d bytes: %v, %d are left", len(frames), err, len(rest))
		}
		if plain, err := p.open(id); err != nil || !bytes.Equal(plain, frames) {
			t.Fatalf("%x was sealed, %x opened: %v", frames, plain, err)
		}
	})
}

// FuzzDNS has any answer follow a question: what is believed is of its name, and bounded.
func FuzzDNS(f *testing.F) {
	f.Add(message(f, 7, true, "a.example.", record("a.example.", &dnsmessage.AResource{A: [4]byte{1, 2, 3, 4}})), false)
	f.Add(message(f, 7, true, "a.example.", record("a.example.", &dnsmessage.CNAMEResource{CNAME: dnsmessage.MustNewName("b.example.")}),
		record("b.example.", &dnsmessage.AAAAResource{})), true)
	f.Fuzz(func(t *testing.T, answer []byte, tcp bool) {
		if len(answer) > 0xffff {
			return
		}
		r, got := newRead()
		proto, framed := uint8(protoUDP), func(b []byte) []byte { return b }
		if tcp {
			proto, framed = protoTCP, func(b []byte) []byte { return append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...) }
		}
		r.Packet(ipPacket(proto, client, resolver, 1, framed(message(t, 7, false, "a.example."))), began)
		for range 2 {
			r.Packet(ipPacket(proto, resolver, client, 1, framed(answer)), began)
		}
		if len(got.answers) > 1 || len(got.claims) > 0 || len(r.asked) > 2 || len(r.pending) > 0 {
			t.Errorf("%d answers, %d claims, %d asked", len(got.answers), len(got.claims), len(r.asked))
		}
		for _, a := range got.answers {
			if a.Name != "a.example" || len(a.Addresses) == 0 || len(a.Addresses) > maxAddrs {
				t.Errorf("%q has %d addresses", a.Name, len(a.Addresses))
			}
		}
	})
}
