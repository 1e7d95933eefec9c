package rules

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Check reports everything about the state that a kernel would refuse or that
// could not be read back as it was written: one error for each problem, with
// its place, joined.
func (s State) Check() error {
	c := &checker{}
	if s.Table != nil {
		c.table(s.Table)
	}
	return errors.Join(c.problems...)
}

type checker struct {
	table_   *Table
	where    string
	problems []error
	base     *Base // of the chain that reaches the rule under check
	rule     []Node
	position int
}

func (c *checker) problem(format string, args ...any) {
	err := fmt.Errorf(c.where+": "+format, args...)
	for _, seen := range c.problems {
		if seen.Error() == err.Error() {
			return // a chain that two base chains reach is checked twice
		}
	}
	c.problems = append(c.problems, err)
}

func (c *checker) table(t *Table) {
	c.table_ = t
	c.where = "table"
	c.name("table", t.Name)
	c.where = "inet " + t.Name
	for i, s := range t.Sets {
		c.where = s.kind() + " " + s.Name
		c.set(s)
		if t.Set(s.Name) != t.Sets[i] {
			c.problem("declared twice")
		}
	}
	for i, chain := range t.Chains {
		c.where = "chain " + chain.Name
		c.name("chain", chain.Name)
		if t.Chain(chain.Name) != t.Chains[i] {
			c.problem("declared twice")
		}
		if chain.Base != nil {
			c.hook(chain.Base)
		}
	}
	for _, chain := range t.Chains {
		if chain.Base != nil {
			c.base = chain.Base
			c.chain(chain, nil)
		}
	}
	for _, chain := range t.Chains {
		if chain.Base == nil {
			c.base = nil
			c.chain(chain, nil)
		}
	}
}

func (c *checker) name(what, name string) {
	valid := name != "" && len(name) <= maxSetName && !strings.ContainsFunc(name, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' || r == '-' || r == '.')
	}) && (name[0] >= 'a' && name[0] <= 'z' || name[0] >= 'A' && name[0] <= 'Z')
	if !valid {
		c.problem("%q is no name for a %s (want a letter, then letters, digits, '_', '-' or '.')", name, what)
	}
}

func (c *checker) set(s *Set) {
	c.name(s.kind(), s.Name)
	if len(s.Key) == 0 {
		c.problem("has no key")
	}
	for _, t := range s.Key {
		if t.String() == "" {
			c.problem("has a key of a type that no set can hold")
		}
	}
	for _, e := range s.Elements {
		c.element(e, s.Key, s.Verdicts, s.Interval)
	}
	c.mixedNames(s.Elements, s.Key)
	if s.Live && s.Verdicts {
		c.problem("a verdict map cannot be live: its chains are made anew with every change")
	}
	if s.Timeout > 0 && !s.Expires {
		c.problem("has a timeout without the timeout flag")
	}
	if s.Dynamic && s.Interval {
		c.problem("cannot be both dynamic and interval")
	}
	c.overlaps(s.Elements, s.Interval)
}

// overlaps reports ranges that the kernel would refuse and that merging does
// not join: those that carry a verdict or a comment.
func (c *checker) overlaps(elements []Element, interval bool) {
	sorted := normalElements(elements, false)
	for i := 1; i < len(sorted); i++ {
		a, b := sorted[i-1], sorted[i]
		if len(a.Key) != 1 || a.Key[0].Hi < b.Key[0].Lo {
			continue
		}
		if !interval || !joins(a, b) {
			c.problem("has two elements for the same key")
			return
		}
	}
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

func (c *checker) element(e Element, key []DataType, verdicts, interval bool) {
	if len(e.Key) != len(key) {
		c.problem("has an element of %d parts, where the key has %d", len(e.Key), len(key))
		return
	}
	for i, r := range e.Key {
		switch {
		case len(r.Lo) != key[i].Len() || len(r.Hi) != key[i].Len():
			c.problem("holds a value that is no %s", key[i])
		case r.Lo > r.Hi:
			c.problem("range %s-%s is upside down", key[i].Format(r.Lo), key[i].Format(r.Hi))
		case !interval && !r.Single():
			c.problem("holds the range %s but no interval flag", key[i].FormatRange(r))
		}
	}
	c.comment(e.Comment)
	switch {
	case verdicts && e.Verdict.Kind == noVerdict:
		c.problem("has an element without a verdict")
	case !verdicts && e.Verdict != Verdict{}:
		c.problem("has an element with a verdict, and is no verdict map")
	}
}

func (c *checker) comment(text string) {
	if len(text) > maxReason {
		c.problem("%q is %d bytes long (at most %d)", text, len(text), maxReason)
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
}

// chain checks the rules of a chain as packets of the current base chain meet
// them, and follows its jumps.
func (c *checker) chain(chain *Chain, path []string) {
	if slices.Contains(path, chain.Name) {
		c.problem("jumps in a circle: %s", strings.Join(append(path, chain.Name), " -> "))
		return
	}
	if path = append(path, chain.Name); len(path) > maxChainDepth {
		c.problem("jumps deeper than %d chains", maxChainDepth)
		return
	}
	for i, r := range chain.Rules {
		c.where = fmt.Sprintf("chain %s rule %d %q", chain.Name, i+1, r.Reason)
		c.comment(r.Reason)
		c.nodes(r.Nodes)
		for _, target := range c.targets(r.Nodes) {
			where := c.where
			if next := c.table_.Chain(target); next == nil {
				c.problem("there is no chain %s to jump to", target)
			} else if next.Base != nil {
				c.problem("%s is a base chain: no rule can jump there", target)
			} else {
				c.chain(next, slices.Clone(path))
			}
			c.where = where
		}
	}
}

func (c *checker) nodes(nodes []Node) {
	if len(nodes) == 0 {
		c.problem("is empty")
	}
	c.rule = nodes
	for i, n := range nodes {
		c.position = i
		n.check(c)
		if n.needs().terminal && i < len(nodes)-1 {
			c.problem("nothing after %q is ever reached", n.text(nil))
		}
	}
}

// targets are the chains that the nodes may go to.
func (c *checker) targets(nodes []Node) []string {
	var names []string
	add := func(v Verdict) {
		if v.Chain != "" {
			names = append(names, v.Chain)
		}
	}
	for _, n := range nodes {
		switch n := n.(type) {
		case Verdict:
			add(n)
		case VMap:
			elements := n.Elements
			if s := c.table_.Set(n.Map); s != nil {
				elements = s.Elements
			}
			for _, e := range elements {
				add(e.Verdict)
			}
		}
	}
	return names
}

// transport reports whether the nodes before this one leave only TCP or UDP.
func (c *checker) transport() bool {
	for _, n := range c.rule[:c.position] {
		for _, s := range n.needs().selectors {
			if s.Proto() != 0 {
				return true
			}
		}
		if m, ok := n.(Match); ok && len(m.Key) == 1 && m.Key[0] == Selector(L4Proto) && !m.Negated {
			return true
		}
	}
	return false
}

// reached reports whether the rule stands where packets of such a base chain
// come; where no base chain reaches it, anything goes.
func (c *checker) reached(typ ChainType, hooks ...Hook) bool {
	return c.base == nil || c.base.Type == typ && slices.Contains(hooks, c.base.Hook)
}

func (c *checker) lookup(key []Selector, name string, verdicts bool) {
	s := c.table_.Set(name)
	switch {
	case s == nil:
		c.problem("there is no set %s", name)
	case s.Verdicts != verdicts:
		c.problem("%s is a %s", name, s.kind())
	case !slices.Equal(s.Key, typesOf(key)):
		c.problem("%s is keyed by %s, not by %s", name, joinTypes(s.Key), joinSelectors(key))
	}
}

func (c *checker) keys(key []Selector) {
	if len(key) == 0 {
		c.problem("a match reads nothing")
	}
	var proto Proto
	var family Family
	for _, s := range key {
		if s.Type() == noType {
			c.problem("%q is to be expanded by family first", s)
		}
		if kind, level := s.Kind(); kind == SocketCgroupKind && level == 0 {
			c.problem("socket cgroupv2 needs a level of 1 to 255")
		}
		if p := s.Proto(); p != 0 && proto != 0 && p != proto {
			c.problem("no packet has both %s and %s", symbol(protoNames, uint64(p)), symbol(protoNames, uint64(proto)))
		}
		if f := s.Family(); f != 0 && family != 0 && f != family {
			c.problem("no packet is both ipv4 and ipv6")
		}
		proto, family = max(proto, s.Proto()), max(family, s.Family())
	}
	c.conflicts(key)
}

// conflicts reports a key that can never be read, because of what the rule
// matched before.
func (c *checker) conflicts(key []Selector) {
	for _, before := range c.rule[:c.position] {
		for _, a := range before.needs().selectors {
			for _, b := range key {
				if a.Proto() != 0 && b.Proto() != 0 && a.Proto() != b.Proto() ||
					a.Family() != 0 && b.Family() != 0 && a.Family() != b.Family() {
					c.problem("%s never holds after %s", b, a)
				}
			}
		}
	}
}

func (m Match) check(c *checker) {
	c.keys(m.Key)
	if len(m.Key) == 0 {
		return
	}
	if m.Mask != "" && (len(m.Key) != 1 || len(m.Mask) != m.Key[0].Type().Len()) {
		c.problem("the mask of %s does not fit it", joinSelectors(m.Key))
	}
	if m.Set != "" {
		c.lookup(m.Key, m.Set, false)
		return
	}
	if len(m.Elements) == 0 {
		c.problem("%s is compared with nothing", joinSelectors(m.Key))
	}
	if len(m.Key) > 1 {
		c.problem("%s wants a declared set", joinSelectors(m.Key))
	}
	for _, e := range m.Elements {
		c.element(e, m.Types(), false, true)
		if m.Mask != "" && hasRange(e) {
			c.problem("%s under a mask is compared with a range", m.Key[0])
		}
	}
	c.mixedNames(m.Elements, m.Types())
}

func (v Verdict) check(c *checker) {
	if (v.Kind == jump || v.Kind == gotos) != (v.Chain != "") {
		c.problem("jump and goto need a chain, other verdicts none")
	}
	if v.Kind == noVerdict || v.Kind > gotos {
		c.problem("a verdict says nothing")
	}
}

func (v VMap) check(c *checker) {
	c.keys(v.Key)
	if v.Map != "" {
		c.lookup(v.Key, v.Map, true)
		return
	}
	if len(v.Elements) == 0 {
		c.problem("a verdict map is empty")
	}
	if len(v.Key) > 1 {
		c.problem("%s wants a declared map", joinSelectors(v.Key))
	}
	for _, e := range v.Elements {
		c.element(e, v.Types(), true, true)
	}
	c.overlaps(v.Elements, true)
}

func (Counter) check(*checker) {}

func (r Redirect) check(c *checker) {
	if !c.reached(NATType, Prerouting, Output) {
		c.problem("redirect works in nat chains of prerouting and output, not in %s", c.base)
	}
	if r.Ports == nil {
		return
	}
	if len(r.Ports.Lo) != 2 || len(r.Ports.Hi) != 2 || r.Ports.Lo > r.Ports.Hi || r.Ports.Lo == zeros(2) {
		c.problem("redirect wants ports of 1-65535")
	}
	if !c.transport() {
		c.problem("redirect to a port wants a match on the transport protocol before it")
	}
}

func (t TProxy) check(c *checker) {
	if !c.reached(FilterType, Prerouting) {
		c.problem("tproxy works in filter chains of prerouting, not in %s", c.base)
	}
	if !c.transport() {
		c.problem("tproxy wants a match on the transport protocol before it")
	}
	if t.Port == 0 && t.Addr == "" {
		c.problem("tproxy wants a port or an address")
	}
	lengths := map[Family]int{IPv4: 4, IPv6: 16}
	if t.Addr != "" && len(t.Addr) != lengths[t.Family] {
		c.problem("the address of a tproxy is not of its family")
	}
}

func (a Assign) check(c *checker) {
	typ := a.To.Type()
	switch a.To {
	case Selector(MetaMark), Selector(CTMark):
	case Selector(CTZone):
		if c.base != nil && (c.base.Priority >= conntrackPrio || c.base.Hook != Prerouting && c.base.Hook != Output) {
			c.problem("a zone is set before conntrack, in prerouting or output at a priority under %d", conntrackPrio)
		}
	default:
		c.problem("%s cannot be set", a.To)
		return
	}
	if a.From != 0 && (a.From.Type() != typ || len(a.Mask) != typ.Len()) {
		c.problem("%s cannot be copied to %s", a.From, a.To)
	}
	if len(a.Xor) != typ.Len() {
		c.problem("the value for %s is not of its length", a.To)
	}
}

func (NoTrack) check(c *checker) {
	if c.base != nil && (c.base.Priority >= conntrackPrio || c.base.Hook != Prerouting && c.base.Hook != Output) {
		c.problem("notrack works before conntrack, in prerouting or output at a priority under %d", conntrackPrio)
	}
}

func (o Opaque) check(c *checker) { c.problem("holds %s, which the model does not know", o.Name) }

func (m Match) needs() nodeNeeds { return nodeNeeds{selectors: m.Key} }
func (v VMap) needs() nodeNeeds  { return nodeNeeds{selectors: v.Key} }
func (v Verdict) needs() nodeNeeds {
	return nodeNeeds{terminal: true}
}
func (Counter) needs() nodeNeeds  { return nodeNeeds{} }
func (Redirect) needs() nodeNeeds { return nodeNeeds{terminal: true} }
func (TProxy) needs() nodeNeeds   { return nodeNeeds{} }
func (NoTrack) needs() nodeNeeds  { return nodeNeeds{} }
func (Opaque) needs() nodeNeeds   { return nodeNeeds{} }
func (a Assign) needs() nodeNeeds {
	if a.From == 0 {
		return nodeNeeds{}
	}
	return nodeNeeds{selectors: []Selector{a.From}}
}
