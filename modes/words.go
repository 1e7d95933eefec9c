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
	mode     string
	anyName  bool // users and groups are not looked up: every name is taken for one
	anyHost  bool // nor are cgroups and resolvers
	problems []error
	notes    []Note
}

func (r *reader) problem(key, word, format string, args ...any) {
	text, m := newMessage(format, args)
	r.problems = append(r.problems, &ConfigError{Key: key, Word: word, Problem: text, message: m})
}

// missing is a problem that the environment has and no word.
func (r *reader) missing(key, format string, args ...any) {
	text, m := newMessage(format, args)
	r.problems = append(r.problems, &ConfigError{Key: key, Problem: text, Missing: true, message: m})
}

func (r *reader) note(key, format string, args ...any) {
	text, m := newMessage(format, args)
	r.notes = append(r.notes, Note{Key: key, Text: text, message: m})
}

// synonyms are words that YAML tools and people write for ours.
var synonyms = map[string][]string{
	"none":     {"off", "false", "no"},
	"disabled": {"off", "false", "no"},
	"enabled":  {"on", "true", "yes"},
	"all":      {"*"},
}

// choice is one of the words that the mode allows for a key, by itself or by a
// synonym that can mean only one of them.
func (r *reader) choice(key, word string) string {
	allowed := keyOf(key).ChoicesIn(r.mode)
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
	r.problem(key, word, "is not one of: %s", strings.Join(allowed, ", "))
	return allowed[0]
}

// everything reports whether a list is the one word for all, nothing whether it
// is the one word for none, and empty whether it names nothing at all.
func everything(words []string) bool { return len(words) == 1 && isAll(words[0]) }

func nothing(words []string) bool { return len(words) == 1 && isNone(words[0]) }

// IsForAll reports whether a word stands for a whole list, all or none of it, and
// is no element of one.
func IsForAll(word string) bool { return isAll(word) || isNone(word) }

func empty(words []string) bool { return len(words) == 0 || nothing(words) }

func isNone(word string) bool {
	return strings.EqualFold(word, "none") || slices.Contains(synonyms["none"], strings.ToLower(word))
}

func isAll(word string) bool { return strings.EqualFold(word, "all") || word == "*" }

// list is a list's words without those that stand for a whole list: none is an
// empty one, and all says something only by itself and where there is nothing
// to exclude.
func (r *reader) list(key string, words []string) []string {
	if empty(words) {
		return nil
	}
	out := make([]string, 0, len(words))
	for _, w := range words {
		section, name, _ := strings.Cut(key, ".")
		switch {
		case len(words) > 1 && (isAll(w) || strings.EqualFold(w, "none")):
			r.problem(key, w, "stands beside other words (want it alone, or a list without it)")
		case isAll(w) && (section == "inbound" || section == "outbound") && strings.HasPrefix(name, "exclude"):
			r.problem(key, w, "would leave everything alone (want %s for that)", Ref{section + ".via", viaNone})
		default:
			out = append(out, w)
		}
	}
	return out
}

// parseNumber reads a number of at most that many bits, in decimal or, where it
// may be, with 0x. A leading zero means octal to some readers and nothing to
// others, so it is refused.
func parseNumber(word string, bits int, hexToo bool) (uint64, bool) {
	if digits, isHex := strings.CutPrefix(strings.ToLower(word), "0x"); isHex && hexToo {
		n, err := strconv.ParseUint(digits, 16, bits)
		return n, err == nil
	}
	if len(word) > 1 && word[0] == '0' {
		return 0, false
	}
	n, err := strconv.ParseUint(word, 10, bits)
	return n, err == nil
}

// ports reads ports and ranges.
func (r *reader) ports(key string, words []string) []rules.Range {
	var out []rules.Range
	for _, w := range r.list(key, words) {
		if p, ok := r.portRange(key, w); ok {
			out = append(out, p)
		}
	}
	return out
}

func (r *reader) portRange(key, word string) (rules.Range, bool) {
	lo, hi, ok := parsePorts(word)
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

const maxPortWord = 64 // bytes: more than a range of the longest services takes

// parsePorts reads a port, a service's name, or a range of such: 8000-8100,
// 8000:8100, and open at one end 8000: or :8100. A range may hold port 0, which by
// itself is a mistake.
func parsePorts(word string) (lo, hi rules.Port, ok bool) {
	if len(word) > maxPortWord {
		return 0, 0, false
	}
	if p, ok := portOrService(word); ok {
		return p, p, true
	}
	from, to, isRange := strings.Cut(word, ":")
	if isRange && (from == "") != (to == "") {
		from, to = cmp.Or(from, "0"), cmp.Or(to, "65535")
	} else if !isRange {
		from, to, isRange = cutRange(word)
	}
	lo, okLo := rangeEnd(strings.TrimSpace(from))
	hi, okHi := rangeEnd(strings.TrimSpace(to))
	return lo, hi, isRange && okLo && okHi
}

// cutRange splits at the first dash that both sides are ports of: a service's name
// may hold others.
func cutRange(word string) (from, to string, ok bool) {
	for at := range len(word) {
		if word[at] != '-' {
			continue
		}
		from, to := word[:at], word[at+1:]
		_, okFrom := rangeEnd(strings.TrimSpace(from))
		_, okTo := rangeEnd(strings.TrimSpace(to))
		if okFrom && okTo {
			return from, to, true
		}
	}
	return "", "", false
}

func portOrService(word string) (rules.Port, bool) {
	if p, ok := parsePort(word); ok {
		return p, true
	}
	return servicePort(word)
}

// rangeEnd is portOrService that takes port 0 too.
func rangeEnd(word string) (rules.Port, bool) {
	if word == "0" {
		return 0, true
	}
	return portOrService(word)
}

func parsePort(word string) (rules.Port, bool) {
	n, ok := parseNumber(word, 16, false)
	return rules.Port(n), ok && n > 0
}

// listener reads the port of a proxy's listener, or the range of those that it
// may have.
func (r *reader) listener(key, word string) rules.Range {
	lo, hi, ok := parsePorts(word)
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

func (r *reader) port(key, word string) rules.Port {
	p, ok := parsePort(word)
	if !ok {
		r.problem(key, word, "is not a port (want a number of 1-65535)")
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
	lo, okLo := parseNumber(from, 32, false)
	hi, okHi := parseNumber(to, 32, false)
	return lo, hi, okLo && okHi
}

const invalidID = 1<<32 - 1 // (uid_t)-1 of the kernel

// everyInterface reports whether a name stands for all of them, as iptables' + does.
func everyInterface(name rules.IfName) bool { return name == "*" }

func isWildcard(name rules.IfName) bool {
	return !everyInterface(name) && strings.HasSuffix(string(name), "*")
}

func isWholeName(name rules.IfName) bool { return !strings.HasSuffix(string(name), "*") }

const maxIfName = 15 // IFNAMSIZ less the terminating zero

// interfaces reads interface names and wildcards.
func (r *reader) interfaces(key string, words []string) []rules.IfName {
	var out []rules.IfName
	for _, w := range r.list(key, words) {
		name := w
		if stem, ok := strings.CutSuffix(w, "+"); ok {
			name = stem + "*" // as iptables has it
		}
		stem := strings.TrimSuffix(name, "*")
		switch {
		case everyInterface(rules.IfName(name)) || isAll(w):
			out = append(out, "*")
		case name == "" || name == "." || name == ".." || strings.ContainsFunc(name, notInName):
			r.problem(key, w, "is not an interface name")
		case stem == "" || strings.Contains(stem, "*"):
			r.problem(key, w, "is not an interface name (a wildcard is a name that ends in *, such as eth*)")
		case len(stem) > maxIfName:
			r.problem(key, w, "is %d bytes long (an interface name has at most %d)", len(stem), maxIfName)
		case len(name) > maxIfName: // nft counts the asterisk
			r.problem(key, w, "is too long for a wildcard (want the name itself, or at most %d bytes before the asterisk)", maxIfName-1)
		default:
			out = append(out, rules.IfName(name))
		}
	}
	return out
}

// notInName is what dev_valid_name of the kernel refuses, and what nft's text
// cannot hold.
func notInName(c rune) bool { return c <= ' ' || c > '~' || strings.ContainsRune(`/:"\`, c) }

// mark reads value[/mask], in decimal or with 0x, with the mask that holds where
// none is written. The mask is 0 where there was a problem.
func (r *reader) mark(key, word string, mask rules.Mark) (rules.Mark, rules.Mark) {
	v, m, masked := strings.Cut(word, "/")
	n, ok := parseNumber(v, 32, true)
	k := uint64(mask)
	if masked && ok {
		k, ok = parseNumber(m, 32, true)
	}
	switch {
	case !ok || k == 0:
		r.problem(key, word, "is not a mark (want a number such as 0x539 or 0x539/0xfff)")
	case n&^k != 0 && masked:
		r.problem(key, word, "has bits outside its mask: it never matches")
	case n&^k != 0:
		r.problem(key, word, "has bits outside its mask, %#x of %s: it never matches (want a mask that holds them, such as %s/%#x)", k, Ref{Key: "routing.mask"}, v, k|n)
	case n == 0 && (!masked || key != "routing.mark"): // istio-init writes it: the reference takes it
		r.problem(key, word, "is what packets without a mark have (want a number that is not 0)")
	default:
		return rules.Mark(n), rules.Mark(k)
	}
	return 0, 0
}

// mask reads the mask of marks that are written without one. It is every bit where
// there was a problem.
func (r *reader) mask(key, word string) rules.Mark {
	n, ok := parseNumber(word, 32, true)
	if !ok || n == 0 {
		r.problem(key, word, "is not a mask of mark bits (want a number such as 0xfff, or 0xffffffff for whole marks)")
		return everyBit
	}
	return rules.Mark(n)
}

// noteNoMark tells of a mark that every packet without one has.
func (r *reader) noteNoMark(key string, mark, mask rules.Mark) {
	if mask != 0 && mark == 0 {
		r.note(key, "0 is what packets without a mark have: they are routed by %s, and none comes in by the proxy", Ref{Key: "routing.table"})
	}
}

// number reads a whole number of a range.
func (r *reader) number(key, word string, lo, hi uint32) uint32 {
	n, ok := parseNumber(word, 32, true)
	if !ok || uint32(n) < lo || uint32(n) > hi {
		r.problem(key, word, "is not a whole number from %d to %d", lo, hi)
	}
	return uint32(n)
}

// overlapping reports words of a list of ports that name a port of the other
// list.
func (r *reader) overlapping(key string, words []string, otherKey string, others []string) {
	quiet := &reader{}
	type named struct {
		rules.Range
		word string
	}
	var other []named
	for _, w := range others {
		if p, ok := quiet.portRange("", w); ok {
			other = append(other, named{p, w})
		}
	}
	slices.SortFunc(other, func(a, b named) int { return cmp.Compare(a.Lo, b.Lo) })
	for i := 1; i < len(other); i++ { // the one that reaches farthest of those up to here
		if other[i].Hi < other[i-1].Hi {
			other[i].Hi, other[i].word = other[i-1].Hi, other[i-1].word
		}
	}
	for _, w := range words {
		p, ok := quiet.portRange("", w)
		if !ok {
			continue
		}
		after, _ := slices.BinarySearchFunc(other, p.Hi, func(o named, hi rules.Bits) int {
			if o.Lo <= hi {
				return -1
			}
			return 1
		})
		if after == 0 || other[after-1].Hi < p.Lo {
			continue
		}
		if o := other[after-1].word; o != w {
			r.problem(key, w, "overlaps %q of %s", o, Ref{Key: otherKey})
		} else {
			r.problem(key, w, "is in %s too", Ref{Key: otherKey})
		}
	}
}

// sorted are ranges in their order, each once.
func sorted(in []rules.Range) []rules.Range {
	out := slices.Clone(in)
	slices.SortFunc(out, func(a, b rules.Range) int { return cmp.Or(cmp.Compare(a.Lo, b.Lo), cmp.Compare(a.Hi, b.Hi)) })
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

// portWord is a range as portRange reads it.
func portWord(p rules.Range) string {
	if p == rules.RangeOf(rules.Port(0)) {
		return "0-0"
	}
	return portText(p)
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
			out = append(out, portWord(rules.Range{Lo: p.Lo, Hi: m.Lo.Before()}))
		}
		if after, more := m.After(); more && after <= p.Hi {
			out = append(out, portWord(rules.Range{Lo: after, Hi: p.Hi}))
		}
	}
	return out
}
