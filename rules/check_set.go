// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"math"
	"slices"
	"strings"
	"time"

	"github.com/weir-mesh/weir/internal/reserved"
)

func (c *checker) set(s *Set) {
	c.name(s.kind(), s.Name, maxName)
	if s.Name == reserved.Tag {
		c.problem("the name is taken: that set says who wrote the table")
	}
	if s.Others != "" {
		c.problem("has %s, which the model does not know", strings.TrimSpace(s.Others))
	}
	c.setKey(s)
	if s.Live && s.Verdicts {
		c.problem("a verdict map cannot be live: its chains are made anew with every change")
	}
	if (s.Dynamic || s.Expires) && !s.Live {
		c.problem("elements that come and go by themselves want a live set")
	}
	if s.Dynamic && !s.Interval && s.Size == 0 {
		c.problem("has no size: to a dynamic set the kernel gives one (want a size)")
	}
	if s.Dynamic && s.Interval {
		c.problem("cannot be both dynamic and interval")
	}
	if s.Quota != 0 && s.Counters {
		c.problem("has a counter and a quota, of which an element has one")
	}
	if s.Quota != 0 && s.Verdicts {
		c.problem("a verdict map has no quota")
	}
	if s.Timeout != 0 && !s.Expires {
		c.problem("has a timeout without the timeout flag")
	}
	if s.Sweep != 0 && !s.Expires {
		c.problem("has a gc-interval without the timeout flag")
	}
	if s.Sweep > maxSweep {
		c.problem("has a gc-interval of %s (want at most %s)", s.Sweep, maxSweep)
	}
	c.timeout(s.Timeout)
	c.timeout(s.Sweep)
	if s.Size > 0 && s.Interval && len(s.Key) == 1 {
		c.problem("an interval set has no size: kernels differ in what they count")
	}
	for i := range s.Elements {
		e := &s.Elements[i]
		c.element(e, s.Key, s.Verdicts, s.Interval)
		c.timeout(e.Timeout)
		if e.Timeout != 0 && !s.Expires {
			c.problem("has an element with a timeout, and no timeout flag")
		}
	}
	elements := s.Elements
	if !c.normal {
		elements = normalElements(elements, s.joining())
	}
	if s.Size > 0 && len(elements) > int(s.Size) {
		c.problem("holds %d elements, and room for %d", len(elements), s.Size)
	}
	c.mixedNames(s.Elements, s.Key)
	c.disjoint(elements)
}

// setKey refuses keys that neither the kernel (NFT_DATA_VALUE_MAXLEN) nor the
// number that nft makes of their types can hold.
func (c *checker) setKey(s *Set) {
	if len(s.Key) == 0 {
		c.problem("has no key")
	}
	size := 0
	for _, t := range s.Key {
		c.settable(t)
		size += (t.Len() + 3) &^ 3
	}
	if len(s.Key) > maxParts || size > maxKeySize {
		c.problem("has a key of %d parts and %d bytes (at most %d and %d)", len(s.Key), size, maxParts, maxKeySize)
	}
	if s.Interval && len(s.Key) == 1 && !s.Key[0].ranges() && s.Key[0] != ifNameType {
		c.problem("cannot be an interval set: nft has no ranges of %s", s.Key[0])
	}
	if len(s.Key) > 1 && slices.Contains(s.Key, tcpFlags) {
		c.problem("has a key of several parts with tcp_flag, which nft cannot list") // 1.0.6 crashes
	}
}

// settable refuses a type that no set can have as a key.
func (c *checker) settable(t DataType) {
	if t.String() == "" {
		c.problem("has a key of a type that no set can hold")
	}
}

// maxSweep keeps a gc-interval within the kernel's 32 bits of milliseconds.
const maxSweep = 24 * time.Hour

func (c *checker) timeout(d time.Duration) {
	if d < 0 || d%time.Second != 0 {
		c.problem("a timeout of %s (want whole seconds: kernels count in their own ticks)", d)
	}
}

// disjoint reports elements of a normal list that share a key: the kernel would
// refuse them.
func (c *checker) disjoint(elements []Element) {
	var open []*Element // they reach as far as the present one, in the key's first part
	var reach Bits      // of the furthest
	for i := range elements {
		e := &elements[i]
		if len(e.Key) == 0 {
			continue
		}
		if reach < e.Key[0].Lo { // lists are long, and mostly of one part
			open, reach = append(open[:0], e), e.Key[0].Hi
			continue
		}
		open = slices.DeleteFunc(open, func(o *Element) bool { return len(o.Key) != len(e.Key) || o.Key[0].Hi < e.Key[0].Lo })
		if slices.ContainsFunc(open, e.overlaps) {
			c.problem("has two elements for the same key")
			return
		}
		open, reach = append(open, e), max(reach, e.Key[0].Hi)
	}
}

// overlaps reports whether some key is in both elements.
func (e *Element) overlaps(o *Element) bool {
	for i := range e.Key {
		if o.Key[i].Hi < e.Key[i].Lo || e.Key[i].Hi < o.Key[i].Lo {
			return false
		}
	}
	return true
}

// mixedNames refuses a name beside a wildcard: nft 1.0.6 loses the end of such
// a name's interval.
func (c *checker) mixedNames(elements []Element, key []DataType) {
	if len(key) != 1 || key[0] != ifNameType {
		return
	}
	wild := slices.ContainsFunc(elements, hasRange)
	exact := slices.ContainsFunc(elements, func(e Element) bool { return !hasRange(e) })
	if wild && exact {
		c.problem("holds interface names and wildcards (want a set of each)")
	}
}

func (c *checker) element(e *Element, key []DataType, verdicts, interval bool) {
	if len(e.Key) != len(key) {
		c.problem("has an element of %d parts, where the key has %d", len(e.Key), len(key))
		return
	}
	for i, r := range e.Key {
		c.span(r, key[i])
		if !interval && !r.Single() {
			c.problem("holds the range %s but no interval flag", key[i].FormatRange(r))
		}
	}
	c.comment(e.Comment)
	switch {
	case verdicts && e.Verdict.Kind == noVerdict:
		c.problem("has an element without a verdict")
	case verdicts:
		e.Verdict.check(c)
	case e.Verdict != Verdict{}:
		c.problem("has an element with a verdict, but is not a verdict map")
	}
}

// span refuses what is neither a value nor a range of the type.
func (c *checker) span(r Range, t DataType) {
	switch {
	case t == noType: // told of its selector or set
	case len(r.Lo) != t.Len() || len(r.Hi) != t.Len():
		c.problem("holds a value that is not of type %s", t)
	case r.Lo > r.Hi:
		c.problem("range %s-%s is upside down", t.Format(r.Lo), t.Format(r.Hi))
	case t == ifNameType:
		c.ifName(r)
	case t == ifIndex && r.Hi.Uint64() > math.MaxInt32:
		c.problem("%s is not an interface index (at most %d)", t.FormatRange(r), math.MaxInt32)
	case !r.Single() && !t.ranges():
		c.problem("nft has no ranges of %s", t)
	}
}

// ranges reports whether nft takes ranges of the type. Of interface names it
// takes wildcards.
func (d DataType) ranges() bool {
	switch d {
	case inetService, inetProto, ipv4Addr, ipv6Addr, ifIndex, markType, uidType, gid, zone:
		return true
	}
	return d.raw()
}

// raw reports whether values of the type are bytes of a packet.
func (d DataType) raw() bool { return d >= integer8 && d < integer8+maxRawLength }

// masks reports whether values of the type are bits to be masked.
func (d DataType) masks() bool {
	return d.raw() || slices.Contains([]DataType{ipv4Addr, ipv6Addr, markType, ctState, tcpFlags}, d)
}

// ifName refuses what no interface is called (dev_valid_name of net/core/dev.c)
// and what nft reads differently.
func (c *checker) ifName(r Range) {
	stem, rest := string(r.Lo), ""
	if i := strings.IndexByte(stem, 0); i >= 0 {
		stem, rest = stem[:i], stem[i:]
	}
	most := MaxIfName
	if !r.Single() {
		most-- // nft counts the asterisk
	}
	wildcard := nameSpan(stem + "*")
	switch {
	case strings.Trim(rest, "\x00") != "" || !r.Single() && r != wildcard:
		c.problem("%q-%q is neither an interface name nor a wildcard", r.Lo, r.Hi)
	case stem == "" || len(stem) > most:
		c.problem("%s is not an interface name (want 1 to %d bytes, before an asterisk 1 to %d)", ifNameType.FormatRange(r), MaxIfName, MaxIfName-1)
	case !namesInterface(stem):
		c.problem("%s is not an interface name", ifNameType.FormatRange(r))
	}
}
