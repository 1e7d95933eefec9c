package modes

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/weir-mesh/weir/rules"
)

// reader turns words into values and notes every problem with its key.
type reader struct {
	env      Environment
	problems []error
	notes    []Note
}

func (r *reader) problem(key, word, format string, args ...any) {
	r.problems = append(r.problems, &ConfigError{Key: key, Word: word, Problem: fmt.Sprintf(format, args...)})
}

func (r *reader) note(key, format string, args ...any) {
	r.notes = append(r.notes, Note{key, fmt.Sprintf(format, args...)})
}

// synonyms are words that YAML tools and people write for ours.
var synonyms = map[string][]string{
	"none":     {"off", "false", "no"},
	"disabled": {"off", "false", "no"},
	"enabled":  {"on", "true", "yes"},
	"all":      {"*"},
}

// choice is one of the allowed words, by itself or by a synonym that can mean
// only one of them.
func (r *reader) choice(key, word string, allowed ...string) string {
	var meant []string
	for _, a := range allowed {
		if strings.EqualFold(word, a) {
			return a
		}
		if slices.Contains(synonyms[a], strings.ToLower(word)) {
			meant = append(meant, a)
		}
	}
	if len(meant) == 1 {
		return meant[0]
	}
	r.problem(key, word, "is none of: %s", strings.Join(allowed, ", "))
	return allowed[0]
}

// everything reports whether a list is the one word for all, and nothing
// whether it is the one word for none.
func everything(words []string) bool {
	return len(words) == 1 && (strings.EqualFold(words[0], "all") || words[0] == "*")
}

func nothing(words []string) bool {
	return len(words) == 1 && (strings.EqualFold(words[0], "none") || slices.Contains(synonyms["none"], strings.ToLower(words[0])))
}

// ports reads ports and ranges.
func (r *reader) ports(key string, words []string) []rules.Range {
	var out []rules.Range
	if nothing(words) {
		return nil
	}
	for _, w := range words {
		if p, ok := r.portRange(key, w); ok {
			out = append(out, p)
		}
	}
	return out
}

func (r *reader) portRange(key, word string) (rules.Range, bool) {
	from, to, isRange := cutRange(word)
	lo, okLo := parsePort(from)
	hi, okHi := parsePort(to)
	switch {
	case !isRange && !okLo, isRange && (!okLo || !okHi):
		r.problem(key, word, "is not a port (want 1-65535 or a range such as 8000-8100)")
	case lo > hi:
		r.problem(key, word, "is a range upside down (want %d-%d)", hi, lo)
	default:
		return rules.Between(lo, hi), true
	}
	return rules.Range{}, false
}

// cutRange splits 8000-8100 and 8000:8100.
func cutRange(word string) (from, to string, isRange bool) {
	for _, separator := range []string{"-", ":"} {
		if from, to, ok := strings.Cut(word, separator); ok {
			return strings.TrimSpace(from), strings.TrimSpace(to), true
		}
	}
	return word, word, false
}

func parsePort(word string) (rules.Port, bool) {
	n, err := strconv.ParseUint(word, 10, 16)
	return rules.Port(n), err == nil && n > 0
}

func (r *reader) port(key, word string) rules.Port {
	p, ok := parsePort(word)
	if !ok {
		r.problem(key, word, "is not a port (want 1-65535)")
	}
	return p
}

// prefixes reads addresses and prefixes. Host bits are taken off, with a note.
func (r *reader) prefixes(key string, words []string) []netip.Prefix {
	var out []netip.Prefix
	if nothing(words) {
		return nil
	}
	for _, w := range words {
		if p, ok := r.prefix(key, w); ok {
			out = append(out, p)
		}
	}
	return out
}

func (r *reader) prefix(key, word string) (netip.Prefix, bool) {
	p, err := netip.ParsePrefix(word)
	if err != nil {
		addr, addrErr := netip.ParseAddr(word)
		if addrErr != nil || addr.Zone() != "" {
			r.problem(key, word, "is no address or prefix (want 10.0.0.0/8, 192.0.2.1 or fd00::/8)")
			return p, false
		}
		p = netip.PrefixFrom(addr, addr.BitLen())
	}
	if p.Addr().Is4In6() {
		r.problem(key, word, "is an IPv4-mapped address (write it as IPv4)")
		return p, false
	}
	if p != p.Masked() {
		r.note(key, "%s was read as %s", word, p.Masked())
	}
	return p.Masked(), true
}

// addresses reads single addresses.
func (r *reader) addresses(key string, words []string) []netip.Addr {
	var out []netip.Addr
	for _, w := range words {
		a, err := netip.ParseAddr(w)
		if err != nil || a.Zone() != "" || a.Is4In6() {
			r.problem(key, w, "is no address (want 192.0.2.1 or 2001:db8::1)")
			continue
		}
		out = append(out, a)
	}
	return out
}

// ids reads numbers and names of users or groups.
func ids[T rules.UID | rules.GID](r *reader, key string, words []string, names map[string]uint32, what string) []T {
	var out []T
	if nothing(words) {
		return nil
	}
	for _, w := range words {
		id, err := strconv.ParseUint(w, 10, 32)
		named, known := names[w]
		switch {
		case err == nil && id < invalidID:
			out = append(out, T(id))
		case err == nil:
			r.problem(key, w, "is no %s id (want 0-4294967294)", what)
		case known:
			out = append(out, T(named))
		default:
			r.problem(key, w, "is no number and no %s known here", what)
		}
	}
	return out
}

const invalidID = 1<<32 - 1 // (uid_t)-1 of the kernel

const maxIfName = 15 // IFNAMSIZ less the terminating zero

// interfaces reads interface names and wildcards.
func (r *reader) interfaces(key string, words []string) []rules.IfName {
	var out []rules.IfName
	if nothing(words) {
		return nil
	}
	for _, w := range words {
		name := w
		if stem, ok := strings.CutSuffix(w, "+"); ok {
			name = stem + "*" // as iptables has it
		}
		switch {
		case name == "" || strings.ContainsFunc(name, func(c rune) bool { return c <= ' ' || c == '/' || c == '"' || c > '~' }):
			r.problem(key, w, "is no interface name")
		case name == "*" || strings.Contains(strings.TrimSuffix(name, "*"), "*"):
			r.problem(key, w, "is no interface name (a wildcard is a name that ends in *, such as eth*)")
		case len(strings.TrimSuffix(name, "*")) > maxIfName:
			r.problem(key, w, "is %d bytes long (an interface name has at most %d)", len(name), maxIfName)
		default:
			out = append(out, rules.IfName(name))
		}
	}
	return out
}

// mark reads value[/mask], in decimal or with 0x.
func (r *reader) mark(key, word string) (value, mask rules.Mark) {
	v, m, masked := strings.Cut(word, "/")
	n, err := strconv.ParseUint(v, 0, 32)
	k := uint64(1<<32 - 1)
	if masked && err == nil {
		k, err = strconv.ParseUint(m, 0, 32)
	}
	switch {
	case err != nil || k == 0:
		r.problem(key, word, "is no mark (want a number such as 0x539 or 0x539/0xfff)")
	case n&^k != 0:
		r.problem(key, word, "has bits outside its mask: it never matches")
	}
	return rules.Mark(n), rules.Mark(k)
}

// number reads a whole number of a range.
func (r *reader) number(key, word string, lo, hi uint32) uint32 {
	n, err := strconv.ParseUint(word, 0, 32)
	if err != nil || uint32(n) < lo || uint32(n) > hi {
		r.problem(key, word, "is no number of %d-%d", lo, hi)
	}
	return uint32(n)
}

// overlapping reports a value that stands in both lists.
func (r *reader) overlapping(key, other string, a, b []rules.Range, format func(rules.Range) string) {
	for _, x := range a {
		for _, y := range b {
			if x.Lo <= y.Hi && y.Lo <= x.Hi && len(x.Lo) == len(y.Lo) {
				both := rules.Range{Lo: max(x.Lo, y.Lo), Hi: min(x.Hi, y.Hi)}
				r.problem(key, format(both), "is in %s too", other)
			}
		}
	}
}

func sorted[T cmp.Ordered](in []T) []T {
	out := slices.Clone(in)
	slices.Sort(out)
	return slices.Compact(out)
}

// WithoutPorts are the words of a list of ports less those that another list
// holds. Words that are no ports stay, to be complained of.
func WithoutPorts(list, minus []string) []string {
	out := []string{}
	for _, w := range list {
		keep := []string{w}
		for _, m := range minus {
			keep = subtract(keep, m)
		}
		out = append(out, keep...)
	}
	return out
}

func subtract(words []string, minus string) []string {
	quiet := &reader{}
	m, ok := quiet.portRange("", minus)
	if !ok {
		return words
	}
	var out []string
	for _, w := range words {
		p, ok := quiet.portRange("", w)
		if !ok || m.Hi < p.Lo || p.Hi < m.Lo {
			out = append(out, w)
			continue
		}
		if p.Lo < m.Lo {
			out = append(out, portText(rules.Range{Lo: p.Lo, Hi: m.Lo.Before()}))
		}
		if after, more := m.After(); more && after <= p.Hi {
			out = append(out, portText(rules.Range{Lo: after, Hi: p.Hi}))
		}
	}
	return out
}
