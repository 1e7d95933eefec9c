package rules

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/weir-mesh/weir/internal/reserved"
)

// Check reports everything about the state that a kernel would refuse, that nft
// could not load as text, or that could not be read back as it was written: one
// error for each problem, with its place, joined.
func (s State) Check() error { return s.check(false) }

// CheckNormal is [State.Check] for a state that is in normal form already.
func (s State) CheckNormal() error { return s.check(true) }

func (s State) check(normal bool) error {
	c := &checker{normal: normal, reported: map[string]bool{}}
	if s.Table != nil {
		c.table(s.Table)
	}
	c.routing(s)
	return errors.Join(c.problems...)
}

type checker struct {
	normal   bool // what is checked
	table_   *Table
	where    string
	problems []error
	reported map[string]bool // chains are checked once for each base that reaches them

	base    *Base          // of the chain that reaches the rule under check
	walked  map[string]int // how deep below it each chain was met
	implied implied        // by the rule's nodes so far

	handedOver bool // by a tproxy of the rule
}

func (c *checker) problem(format string, args ...any) {
	text := c.where + ": " + fmt.Sprintf(format, args...)
	if !c.reported[text] {
		c.reported[text] = true
		c.problems = append(c.problems, errors.New(text))
	}
}

func (c *checker) table(t *Table) {
	c.table_ = t
	c.where = "table"
	c.name("table", t.Name, maxTableName)
	if t.Dormant {
		c.problem("inet %s is dormant: no packet would meet its chains", t.Name)
	}
	for _, o := range t.Others {
		c.problem("inet %s holds %s, which the model does not know", t.Name, o)
	}
	for _, s := range t.Sets {
		c.where = s.title()
		c.set(s)
		if t.Set(s.Name) != s {
			c.problem("declared twice")
		}
	}
	for _, chain := range t.Chains {
		c.where = chain.title()
		c.name("chain", chain.Name, maxName)
		if t.Chain(chain.Name) != chain {
			c.problem("declared twice")
		}
		if chain.Others != "" {
			c.problem("has %s, which the model does not know", chain.Others)
		}
		if chain.Base != nil {
			c.hook(chain.Base)
		}
	}
	reached := map[string]int{}
	for _, chain := range t.Chains {
		if chain.Base != nil {
			c.base, c.walked = chain.Base, map[string]int{}
			c.chain(chain, nil)
			maps.Copy(reached, c.walked)
		}
	}
	c.base, c.walked = nil, reached
	for _, chain := range t.Chains {
		c.chain(chain, nil) // those that no base chain reaches
	}
}

func (c *checker) name(what, name string, most int) {
	letter := func(r rune) bool { return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' }
	strange := strings.ContainsFunc(name, func(r rune) bool {
		return !letter(r) && (r < '0' || r > '9') && r != '_' && r != '-' && r != '.'
	})
	switch {
	case name == "" || strange || !letter(rune(name[0])):
		c.problem("%q is not a name for a %s (want a letter, then letters, digits, '_', '-' or '.')", name, what)
	case len(name) > most:
		c.problem("the name of a %s has at most %d bytes", what, most)
	case slices.Contains(keywords, name):
		c.problem("%q is a keyword of nft, not a name for a %s", name, what)
	}
}

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
	if s.Dynamic && s.Interval {
		c.problem("cannot be both dynamic and interval")
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
	if s.Interval && len(s.Key) == 1 && !s.Key[0].ranges() && s.Key[0] != IfNameType {
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
		if reach < e.Key[0].Lo {
			open = open[:0] // lists are long, and mostly of one part
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
	if len(key) != 1 || key[0] != IfNameType {
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
		c.problem("holds a value that is no %s", t)
	case r.Lo > r.Hi:
		c.problem("range %s-%s is upside down", t.Format(r.Lo), t.Format(r.Hi))
	case t == IfNameType:
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
	case InetService, InetProto, IPv4Addr, IPv6Addr, ifIndex, MarkType, UIDType, gid, zone:
		return true
	}
	return false
}

// masks reports whether values of the type are bits to be masked.
func (d DataType) masks() bool {
	return slices.Contains([]DataType{IPv4Addr, IPv6Addr, MarkType, ctState, tcpFlags}, d)
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
		c.problem("%s is not an interface name (want 1 to %d bytes, before an asterisk 1 to %d)", IfNameType.FormatRange(r), MaxIfName, MaxIfName-1)
	case !namesInterface(stem):
		c.problem("%s is not an interface name", IfNameType.FormatRange(r))
	}
}

func (c *checker) comment(text string) {
	if len(text) > MaxComment {
		c.problem("%q is %d bytes long (at most %d)", text, len(text), MaxComment)
	}
	if strings.ContainsFunc(text, func(r rune) bool { return r == '"' || r < ' ' || r == 0x7f }) {
		c.problem("%q holds a double quote or a control character", text)
	}
}

func (c *checker) hook(b *Base) {
	hooks := map[ChainType][]Hook{
		FilterType: {Prerouting, Input, Forward, Output, Postrouting, Ingress},
		NATType:    {Prerouting, Input, Output, Postrouting},
		RouteType:  {Output},
	}[b.Type]
	if !slices.Contains(hooks, b.Hook) {
		c.problem("no chain of type %s hooks into %s", b.Type, b.Hook)
	}
	if b.Type == NATType && b.Priority <= conntrackPrio {
		c.problem("a nat chain needs a priority over %d (that of conntrack)", conntrackPrio)
	}
	if (b.Hook == Ingress) != (len(b.Devices) > 0) {
		c.problem("devices belong to ingress, and ingress to devices")
	}
	for _, d := range b.Devices {
		if strings.HasSuffix(d, "*") || len(d) > MaxIfName {
			c.problem("%q is not a device", d)
			continue
		}
		c.ifName(nameSpan(d))
	}
}

// chain checks the rules of a chain as packets of the current base chain meet
// them, and follows its jumps.
func (c *checker) chain(chain *Chain, path []string) {
	if i := slices.Index(path, chain.Name); i >= 0 {
		c.circle(path[i:])
		return
	}
	if path = append(path, chain.Name); len(path) > maxChainDepth {
		c.problem("jumps deeper than %d chains", maxChainDepth)
		return
	}
	if c.walked[chain.Name] >= len(path) {
		return // from here on there is nothing new
	}
	c.walked[chain.Name] = len(path)
	for i, r := range chain.Rules {
		c.where = fmt.Sprintf("%s rule %d %q", chain.title(), i+1, r.Reason)
		c.rule(r)
		for _, target := range c.table_.Targets(r) {
			if next := c.table_.Chain(target); next != nil && next.Base == nil {
				where := c.where
				c.chain(next, slices.Clone(path))
				c.where = where
			}
		}
	}
}

// circle reports chains that jump to each other, once wherever they were met.
func (c *checker) circle(names []string) {
	first := slices.Index(names, slices.Min(names))
	names = slices.Concat(names[first:], names[:first+1])
	c.where = "chain " + names[0]
	c.problem("jumps in a circle: %s", strings.Join(names, " -> "))
}

// target refuses a jump to where no rule can jump.
func (c *checker) target(v Verdict) {
	if v.Chain == "" {
		return
	}
	if next := c.table_.Chain(v.Chain); next == nil {
		c.problem("jumps to chain %s, which does not exist", v.Chain)
	} else if next.Base != nil {
		c.problem("%s is a base chain: no rule can jump there", v.Chain)
	}
}

// routing refuses what the kernel would take for something else.
func (c *checker) routing(s State) {
	for _, r := range s.PolicyRules {
		c.where = fmt.Sprintf("policy rule %d", r.Priority)
		c.policyRule(r)
		if r.Mask == 0 || r.Mark&^r.Mask != 0 {
			c.problem("the mark 0x%x wants a mask that covers it, not 0x%x", r.Mark, r.Mask)
		}
	}
	for _, r := range s.Routes {
		c.where = fmt.Sprintf("route %s", r.Dst)
		c.lookupTable(r.Family, r.Table)
		if !plainPrefix(r.Dst) || AddressFamily(r.Dst.Addr()) != r.Family {
			c.problem("the destination is not a prefix of family %s", r.Family)
		}
	}
	for _, a := range s.Addresses {
		c.where = fmt.Sprintf("address %s", a)
		if !plainPrefix(a) {
			c.problem("is not an address with a prefix length")
		}
	}
}

// policyRule refuses what fib_nl_newrule does.
func (c *checker) policyRule(r PolicyRule) {
	if r.In != "" {
		c.span(nameSpan(r.In), IfNameType)
		if strings.HasSuffix(r.In, "*") {
			c.problem("%q is not an interface: policy rules know no wildcards", r.In)
		}
	}
	switch {
	case r.Goto == 0:
		c.lookupTable(r.Family, r.Table)
	case r.Table != 0:
		c.problem("looks up table %d, and goes to %d", r.Table, r.Goto)
	case r.Goto <= r.Priority:
		c.problem("goes back to %d", r.Goto)
	}
	if r.Goto != 0 && r.Family != IPv4 && r.Family != IPv6 {
		c.problem("%s is neither ipv4 nor ipv6", r.Family)
	}
}

func (c *checker) lookupTable(f Family, table uint32) {
	if f != IPv4 && f != IPv6 {
		c.problem("%s is neither ipv4 nor ipv6", f)
	}
	if table == 0 {
		c.problem("wants a routing table other than 0")
	}
}

func plainPrefix(p netip.Prefix) bool { return p.IsValid() && !p.Addr().Is4In6() }
