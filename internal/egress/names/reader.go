// SPDX-License-Identifier: Apache-2.0

package names

import (
	"errors"
	"strings"
	"time"
)

// By is what a name is known from, in the order in which one wins over another.
type By string

// Evidence.
const (
	BySNI  By = "sni"  // the client's ClientHello over TCP
	ByQUIC By = "quic" // over QUIC
	ByHTTP By = "http" // the client's request
)

// Claim is a name that a client gave to a connection.
type Claim struct {
	Tuple
	Name string // "": it gave none
	By   By
}

// maxName is the length of a host name at most (RFC 1035, section 2.3.4).
const maxName = 255

// Counts are what was read of copies.
type Counts struct {
	Packets    uint64
	Claims     uint64
	Answers    uint64 // of DNS, that were asked for
	Unasked    uint64 // answers of DNS that nobody asked for: not believed
	Incomplete uint64 // ClientHellos and messages of which not all was copied
	Malformed  uint64 // among them names that are longer than any host's
}

// Reader reads names from copies of packets. The zero Reader is not one: see [NewReader].
type Reader struct {
	Counts  Counts
	pending map[Tuple]*pending
	held    int // bytes of pending ones
	first   time.Time
	asked   map[question]time.Time
	told    func(Answer)
	claimed func(Claim)
}

// NewReader calls claimed with every name that a client gives to a connection, and told with
// every answer of DNS that was asked for.
func NewReader(claimed func(Claim), told func(Answer)) *Reader {
	return &Reader{pending: map[Tuple]*pending{}, asked: map[question]time.Time{}, told: told, claimed: claimed}
}

// Tick gives up on what waits for too long; it is called about once a second.
func (r *Reader) Tick(now time.Time) { r.expire(now) }

// Packet reads one copy, from the network header on.
func (r *Reader) Packet(b []byte, now time.Time) {
	r.Counts.Packets++
	if r.first.IsZero() {
		r.first = now
	}
	p, ok := parsePacket(b)
	if !ok || len(p.Data) == 0 {
		return
	}
	t := Tuple{p.Proto, p.Src, p.Dst}
	switch {
	case p.Src.Port() == dnsPort || p.Dst.Port() == dnsPort:
		r.dns(p, now)
	case p.Proto == protoUDP:
		r.quic(t, p.Data, now)
	case r.pending[t] != nil || beginsHello(p.Data):
		r.tls(t, p, now)
	case beginsRequest(p.Data):
		name, err := host(p.Data)
		r.found(t, name, ByHTTP, err)
	}
}

// beginsHello and beginsRequest tell what the rules copy for its first bytes from what they
// copy because a ClientHello went before.
func beginsHello(data []byte) bool {
	const handshake, clientHello = 0x16, 1
	return len(data) > 5 && data[0] == handshake && data[5] == clientHello
}

func beginsRequest(data []byte) bool {
	for _, method := range []string{"GET ", "POST", "PUT ", "HEAD", "DELE", "PATC", "OPTI"} {
		if strings.HasPrefix(string(data[:min(4, len(data))]), method) {
			return true
		}
	}
	return false
}

// tls adds to a ClientHello, in whatever order its packets come.
func (r *Reader) tls(t Tuple, p Packet, now time.Time) {
	if r.pending[t] == nil {
		if name, err := hello(p.Data); !errors.Is(err, errMore) { // mostly it is whole
			r.found(t, name, BySNI, err)
			return
		}
	}
	w := r.waiting(t, now)
	if w == nil {
		return
	}
	if offset := int(int32(p.Seq - w.first)); len(w.parts) > 0 && beginsHello(p.Data) && (offset < -maxHello || offset > maxHello) { // another connection of the port
		r.Counts.Incomplete++
		r.forget(w)
		w.since = now
	}
	if len(w.parts) == 0 {
		w.first = p.Seq
	}
	r.add(w, int(int32(p.Seq-w.first)), p.Data)
	if name, err := hello(w.whole()); !errors.Is(err, errMore) {
		r.found(t, name, BySNI, err)
	}
}

// quic decrypts the Initials of a datagram.
func (r *Reader) quic(t Tuple, datagram []byte, now time.Time) {
	for len(datagram) > 0 {
		p, rest, err := nextInitial(datagram)
		if err != nil {
			return // what follows in the datagram is no Initial
		}
		datagram = rest
		w := r.waiting(t, now)
		if w == nil {
			return
		}
		if w.id == nil {
			w.id = append([]byte{}, p.destination...)
		}
		plain, err := p.open(w.id)
		if err != nil {
			if plain, err = p.open(p.destination); err != nil { // after a Retry
				r.Counts.Malformed++
				continue
			}
		}
		if err := cryptoFrames(plain, func(offset int, data []byte) { r.add(w, offset, data) }); err != nil {
			r.Counts.Malformed++
			continue
		}
		whole := w.whole()
		if len(whole) < 4 || len(whole) < 4+int(whole[1])<<16|int(whole[2])<<8|int(whole[3]) {
			continue
		}
		name, err := hello(asRecords(whole))
		r.found(t, name, ByQUIC, err)
	}
}

func (r *Reader) found(t Tuple, name string, by By, err error) {
	r.remove(t)
	switch {
	case errors.Is(err, errMore):
		r.Counts.Incomplete++
	case errors.Is(err, errNoName):
		r.claimed(Claim{Tuple: t, By: by})
	case err != nil || len(name) > maxName:
		r.Counts.Malformed++
	default:
		r.Counts.Claims++
		r.claimed(Claim{Tuple: t, Name: name, By: by})
	}
}
