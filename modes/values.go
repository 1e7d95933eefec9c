// SPDX-License-Identifier: Apache-2.0

package modes

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/weir-mesh/weir/internal/parse"
	"github.com/weir-mesh/weir/rules"
)

// ports reads ports and ranges.
func (r *reader) ports(key string, words []PortWord) []rules.Range {
	var out []rules.Range
	for _, w := range r.list(key, texts(words)) {
		if p, ok := r.portRange(key, w); ok {
			out = append(out, p)
		}
	}
	return out
}

func (r *reader) portRange(key, word string) (rules.Range, bool) {
	lo, hi, ok := parse.Ports(word)
	switch {
	case !ok:
		r.problem(key, word, "is not a port (want a number of 1-65535, a range such as 8000-8100, or a service such as https)")
	case lo > hi:
		r.problem(key, word, "is a reversed range (want %d-%d)", hi, lo)
	default:
		return rules.RangeBetween(lo, hi), true
	}
	return rules.Range{}, false
}

// listener reads the port of a proxy's listener, or the range of those that it
// may have.
func (r *reader) listener(key string, port PortWord) rules.Range {
	word := string(port)
	lo, hi, ok := parse.Ports(word)
	switch {
	case !ok:
		r.problem(key, word, "is not a port (want a number of 1-65535, or a range that the proxy listens on)")
	case lo > hi:
		r.problem(key, word, "is a reversed range (want %d-%d)", hi, lo)
	case hi == 0:
		r.note(key, "nothing can listen on port 0: what is captured is refused")
	}
	return rules.RangeBetween(lo, max(lo, hi))
}

// onePort refuses a listener's range that is not one port to connect to, for tproxy. What
// is not a range at all, listener refuses.
func (r *reader) onePort(key string, port PortWord) {
	lo, hi, ok := parse.Ports(string(port))
	if ok && lo <= hi && (lo != hi || hi == 0) {
		r.problem(key, string(port), "is not one port, and with tproxy a connection goes to one (want a number of 1-65535)")
	}
}

func (r *reader) port(key string, port PortWord) rules.Port {
	p, ok := parse.Port(string(port))
	if !ok {
		r.problem(key, string(port), "is not a port (want a number of 1-65535)")
	}
	return p
}

// prefixes reads addresses and prefixes. Host bits are taken off, with a note.
func (r *reader) prefixes(key string, words []string) []netip.Prefix {
	var out []netip.Prefix
	masked := 0
	for _, w := range r.list(key, words) {
		p, ok := r.prefix(key, w)
		if !ok {
			continue
		}
		if p != p.Masked() {
			if masked++; masked <= maxNotes {
				r.noteMasked(key, w, p)
			}
		}
		out = append(out, p.Masked())
	}
	if masked > maxNotes {
		r.note(key, "%d more were read without the bits of a host, like these", masked-maxNotes)
	}
	return out
}

// noteMasked tells what a prefix with the bits of a host was read as.
func (r *reader) noteMasked(key, word string, p netip.Prefix) {
	if p != p.Masked() {
		r.notes = append(r.notes, Note{Key: key, Word: word, Text: fmt.Sprintf("%s was read as %s", word, p.Masked())})
	}
}

const maxNotes = 8 // on words of one list

// prefix reads an address or a prefix, with the bits of a host where it has any.
func (r *reader) prefix(key, word string) (netip.Prefix, bool) {
	p, err := netip.ParsePrefix(word)
	if err != nil {
		addr, addrErr := netip.ParseAddr(word)
		if addrErr != nil || addr.Zone() != "" {
			r.problem(key, word, "is not an address or prefix (want 10.0.0.0/8, 192.0.2.1 or fd00::/8)")
			return p, false
		}
		p = netip.PrefixFrom(addr, addr.BitLen())
	}
	if p.Addr().Is4In6() {
		r.problem(key, word, "is an IPv4-mapped address (write it as IPv4)")
		return p, false
	}
	return p, true
}

// isLoopback reports whether a word is a loopback address or a prefix written with
// one, whatever the prefix covers.
func isLoopback(word string) bool {
	p, ok := new(reader).prefix("", word)
	return ok && p.Addr().IsLoopback()
}

// addresses reads single addresses.
func (r *reader) addresses(key string, words []string) []netip.Addr {
	var out []netip.Addr
	for _, w := range r.list(key, words) {
		a, err := netip.ParseAddr(w)
		switch {
		case err != nil || a.Zone() != "":
			r.problem(key, w, "is not an address (want 192.0.2.1 or 2001:db8::1)")
		case a.Is4In6():
			r.problem(key, w, "is an IPv4-mapped address (write it as IPv4)")
		default:
			out = append(out, a)
		}
	}
	return out
}

// ids reads numbers, ranges of them, and names of users or groups.
func ids[T rules.UID | rules.GID](r *reader, key string, words []string, names map[string]uint32, what string) []rules.Range {
	var out []rules.Range
	for _, w := range r.list(key, words) {
		lo, hi, ok := parseIDs(w)
		named, known := names[w]
		switch {
		case ok && lo > hi:
			r.problem(key, w, "is a reversed range (want %d-%d)", hi, lo)
		case ok && hi < invalidID:
			out = append(out, rules.RangeBetween(T(lo), T(hi)))
		case known:
			out = append(out, rules.RangeOf(T(named)))
		case strings.IndexAny(w, "+-0123456789") == 0 || w == "":
			r.problem(key, w, "is not a %s id (want 0-4294967294, or a range such as 1000-2000)", what)
		case !r.anyName:
			r.problem(key, w, "is neither a number nor a %s known here", what)
		}
	}
	return out
}

// parseIDs reads an id or a range of them, which a name may look like: istio-proxy.
func parseIDs(word string) (lo, hi uint64, ok bool) {
	from, to, isRange := strings.Cut(word, "-")
	if !isRange {
		to = from
	}
	lo, okLo := parse.Number(from, 32, false)
	hi, okHi := parse.Number(to, 32, false)
	return lo, hi, okLo && okHi
}

const invalidID = 1<<32 - 1 // (uid_t)-1 of the kernel

// everyInterface reports whether a name stands for all of them, as iptables' + does.
func everyInterface(name rules.IfName) bool { return name == "*" }

func isWildcard(name rules.IfName) bool {
	return !everyInterface(name) && strings.HasSuffix(string(name), "*")
}

func isWholeName(name rules.IfName) bool { return !strings.HasSuffix(string(name), "*") }

// interfaces reads interface names and wildcards.
func (r *reader) interfaces(key string, words []string) []rules.IfName {
	var out []rules.IfName
	for _, w := range r.list(key, words) {
		name := parse.IfName(w)
		stem := strings.TrimSuffix(name, "*")
		switch {
		case everyInterface(rules.IfName(name)):
			out = append(out, "*")
		case name == "" || name == "." || name == ".." || strings.ContainsFunc(name, notInName):
			r.problem(key, w, "is not an interface name")
		case stem == "" || strings.Contains(stem, "*"):
			r.problem(key, w, "is not an interface name (a wildcard is a name that ends in *, such as eth*)")
		case len(stem) > rules.MaxIfName:
			r.problem(key, w, "is %d bytes long (an interface name has at most %d)", len(stem), rules.MaxIfName)
		case len(name) > rules.MaxIfName: // nft counts the asterisk
			r.problem(key, w, "is too long for a wildcard (want the name itself, or at most %d bytes before the asterisk)", rules.MaxIfName-1)
		default:
			out = append(out, rules.IfName(name))
		}
	}
	return out
}

// notInName is what dev_valid_name of the kernel refuses, and what nft's text
// cannot hold.
func notInName(c rune) bool { return c <= ' ' || c > '~' || strings.ContainsRune(`/:"\`, c) }

// number reads a whole number of a range.
func (r *reader) number(key, word string, lo, hi uint32) uint32 {
	n, ok := parse.Number(word, 32, true)
	if !ok || uint32(n) < lo || uint32(n) > hi {
		r.problem(key, word, "is not a whole number from %d to %d", lo, hi)
	}
	return uint32(n)
}
