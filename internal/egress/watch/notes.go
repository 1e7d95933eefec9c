// SPDX-License-Identifier: Apache-2.0

//go:build linux

package watch

import "fmt"

// Notes say what the rows do not hold.
func (r Report) Notes() (out []string) {
	add := func(n uint64, one, several string) {
		switch {
		case n == 1:
			out = append(out, "1 "+one)
		case n > 1:
			out = append(out, fmt.Sprintf("%d %s", n, several))
		}
	}
	add(r.Lost, "copy of a packet was lost: names may be missing, bytes are not", "copies of packets were lost: names may be missing, bytes are not")
	add(r.Incomplete, "ClientHello or DNS message was not copied whole: no name by it", "ClientHellos or DNS messages were not copied whole: no name by them")
	add(r.Unasked, "DNS answer was not asked for: not believed", "DNS answers were not asked for: not believed")
	add(r.Overflow, "packet is counted for no host: a set is full (watch.size)", "packets are counted for no host: a set is full (watch.size)")
	add(r.Hellos, "ClientHello is copied in part: a set is full", "ClientHellos are copied in part: a set is full")
	add(r.Others, "connection has a name that had no room: its bytes are of \"other\" or of the address", "connections have names that had no room: their bytes are of \"other\" or of the address")
	if r.Unheard {
		out = append(out, "the end of some connections was not heard of: their bytes stay with the address")
	}
	for _, w := range r.Wrong {
		out = append(out, "not counted: "+w)
	}
	for _, d := range r.Drift {
		out = append(out, "the table is not as it was written: "+d)
	}
	return out
}
