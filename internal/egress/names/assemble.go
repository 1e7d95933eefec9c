// SPDX-License-Identifier: Apache-2.0

package names

import (
	"net/netip"
	"time"
)

const (
	maxHello   = 16 << 10 // bytes of a ClientHello that are looked at
	maxParts   = 64       // of one
	maxPending = 4096     // connections whose ClientHello is not whole
	maxHeld    = 16 << 20 // bytes of all of them
	maxWait    = 3 * time.Second
)

// Tuple is a connection as the packets of its client name it.
type Tuple struct {
	Proto    uint8
	Src, Dst netip.AddrPort
}

// pending is a ClientHello of which not all is there.
type pending struct {
	first uint32 // of TCP: the sequence number of its first byte
	id    []byte // of QUIC: the client's first connection id
	parts map[int][]byte
	size  int // bytes of parts
	since time.Time
}

// add keeps a part of a ClientHello, as far as there is room.
func (r *Reader) add(p *pending, offset int, data []byte) {
	if offset < 0 || offset > maxHello || len(p.parts) >= maxParts {
		return
	}
	data = data[:min(len(data), maxHello-offset)]
	more := len(data) - len(p.parts[offset])
	if more <= 0 || r.held+more > maxHeld {
		return
	}
	p.parts[offset] = append([]byte(nil), data...)
	p.size, r.held = p.size+more, r.held+more
}

// forget gives up the parts of a ClientHello.
func (r *Reader) forget(p *pending) {
	r.held -= p.size
	p.parts, p.size = map[int][]byte{}, 0
}

// remove forgets the pending ClientHello of a connection, if there is one.
func (r *Reader) remove(t Tuple) {
	if p := r.pending[t]; p != nil {
		r.forget(p)
		delete(r.pending, t)
	}
}

// whole is what there is without a gap from the start on.
func (p *pending) whole() []byte {
	var out []byte
	for grown := true; grown && len(out) <= maxHello; {
		grown = false
		for offset, data := range p.parts {
			if offset <= len(out) && offset+len(data) > len(out) {
				out, grown = append(out, data[len(out)-offset:]...), true
			}
		}
	}
	return out
}

// waiting is the pending ClientHello of a connection, a new one where there is none. It is
// nil where too many wait.
func (r *Reader) waiting(t Tuple, now time.Time) *pending {
	if p := r.pending[t]; p != nil {
		return p
	}
	if len(r.pending) >= maxPending {
		r.expire(now)
	}
	if len(r.pending) >= maxPending {
		r.Counts.Incomplete++
		return nil
	}
	p := &pending{parts: map[int][]byte{}, since: now}
	r.pending[t] = p
	return p
}

// expire gives up on what waits for too long.
func (r *Reader) expire(now time.Time) {
	for t, p := range r.pending {
		if now.Sub(p.since) > maxWait {
			r.remove(t)
			r.Counts.Incomplete++
		}
	}
	for q, asked := range r.asked {
		if now.Sub(asked) > maxWait {
			delete(r.asked, q)
		}
	}
}
