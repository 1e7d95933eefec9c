// SPDX-License-Identifier: Apache-2.0

//go:build linux

package scratch

import (
	"net/netip"
)

// A Fate is what became of a probe. Two fates are the same if they are equal.
type Fate struct {
	// Land is the listener that answered, as NAME:PORT, or how the probe ended without an answer:
	// refused, timeout, closed, or error:TEXT with the system's own words.
	Land string
	// Orig is the destination that the listener recovered; none for UDP and where nothing answered.
	Orig netip.AddrPort
	// Src says whether the listener saw the client's own address; none where nothing answered.
	Src Source
	// CT is the conntrack mark and zone that the flow was left with, where either is set, as
	// [Flow.Track] has them; several flows of one probe are sorted and joined by commas. Whoever read
	// the connection tracker fills it in.
	CT string
}

// Source is what a listener saw of the client's address.
type Source string

const (
	SourceKept    Source = "kept"    // the address that the client's socket has
	SourceChanged Source = "changed" // another one
)

// String is the fate in the words of a conformance table:
//
//	pod:15006 orig=10.4.5.6:80 src=kept ct=mark=0x111
func (f Fate) String() string {
	s := f.Land
	if f.Orig.IsValid() {
		s += " orig=" + f.Orig.String()
	}
	if f.Src != "" {
		s += " src=" + string(f.Src)
	}
	if f.CT != "" {
		s += " ct=" + f.CT
	}
	return s
}
