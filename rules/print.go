package rules

import (
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"

	"github.com/weir-mesh/weir/internal/escape"
)

// Print writes the state as a script that `nft -f` loads, and loads again alike:
// the table is replaced whole. What nft does not do (policy rules, routes,
// addresses) follows as comments, in ip(8)'s words.
func (s State) Print(w io.Writer) error {
	_, err := io.WriteString(w, s.Abridged(0))
	return err
}

// Abridged is the state as [State.Print] writes it, but of sets with more than
// most elements their number alone, unless most is 0.
func (s State) Abridged(most int) string {
	p := &printer{most: most}
	n := s.Normal()
	if t := n.Table; t != nil {
		p.line("table inet %s", t.Name)
		p.line("delete table inet %s", t.Name)
		p.table(t)
	}
	for _, line := range n.Routing() {
		p.line("# %s", line)
	}
	return p.String()
}

// String is the state as [State.Print] writes it.
func (s State) String() string { return s.Abridged(0) }

// Routing says the addresses, routes and policy rules as commands of ip(8), and the
// sysctls with the reason for each.
func (s State) Routing() []string {
	var lines []string
	for _, a := range s.Addresses {
		lines = append(lines, AddressText(a))
	}
	for _, r := range s.Routes {
		lines = append(lines, r.String())
	}
	for _, r := range s.PolicyRules {
		lines = append(lines, r.String())
	}
	for _, c := range s.Sysctls {
		lines = append(lines, fmt.Sprintf("sysctl %s = %s: %s", c.Name, c.Value, c.Why))
	}
	return lines
}

// RouteProtocol is the number that our policy rules and routes carry (FRA_PROTOCOL
// and rtm_protocol), and addresses where the kernel keeps it (IFA_PROTO); to
// addresses not every ip(8) can give it.
const RouteProtocol = 119

// AddressText is an address of the loopback interface in ip(8)'s words.
func AddressText(a netip.Prefix) string {
	how := "nodad" // else it could not be used for a second
	if a.Addr().Is4() {
		how = "scope host"
	}
	return fmt.Sprintf("ip address add %s dev lo %s", a, how)
}

func (r PolicyRule) String() string {
	from, then := "", fmt.Sprintf("lookup %d", r.Table)
	if r.In != "" {
		from = "iif " + escape.Text(r.In) + " "
	}
	if r.Goto != 0 {
		then = fmt.Sprintf("goto %d", r.Goto)
	}
	return fmt.Sprintf("ip %srule add priority %d %sfwmark 0x%x/0x%x %s protocol %d", r.Family.option(), r.Priority, from, r.Mark, r.Mask, then, RouteProtocol)
}

func (r Route) String() string {
	dst := r.Dst.String()
	if r.Dst.Bits() == 0 {
		dst = "default"
	}
	return fmt.Sprintf("ip %sroute add local %s dev lo table %d protocol %d", r.Family.option(), dst, r.Table, RouteProtocol)
}

func (f Family) option() string {
	if f == IPv6 {
		return "-6 "
	}
	return ""
}

// String is the rule as nft writes it, its reason as the comment.
func (r Rule) String() string {
	p := &printer{}
	words := make([]string, 0, len(r.Nodes)+1)
	for _, n := range r.Nodes {
		words = append(words, n.text(p))
	}
	if r.Reason != "" {
		words = append(words, "comment "+quote(r.Reason))
	}
	return strings.Join(words, " ")
}

// printer writes nft text; indent is in tabs. Where most is not 0, longer sets
// are left out.
type printer struct {
	strings.Builder
	indent int
	most   int
	ports  int // comparisons with one port, in the rule at hand
}

func (p *printer) line(format string, args ...any) {
	if format != "" {
		p.WriteString(strings.Repeat("\t", p.indent))
		fmt.Fprintf(p, format, args...)
	}
	p.WriteByte('\n')
}

func (p *printer) block(title string, body func()) {
	p.line("%s {", title)
	p.indent++
	body()
	p.indent--
	p.line("}")
}

func (p *printer) table(t *Table) {
	p.block(t.title(), func() {
		for i, s := range t.Sets {
			if i > 0 {
				p.line("")
			}
			p.set(s)
		}
		for i, c := range t.Chains {
			if i+len(t.Sets) > 0 {
				p.line("")
			}
			p.chain(c)
		}
		for _, o := range t.Unsupported() {
			p.line("%s", unknown(o))
		}
	})
}

// String is the set's declaration and elements.
func (s *Set) String() string {
	p := &printer{}
	p.set(s)
	return p.String()
}

func (s *Set) kind() string {
	if s.Verdicts {
		return "map"
	}
	return "set"
}

// title names the set in a message or a script: another program may have named
// it.
func (s *Set) title() string { return s.kind() + " " + escape.Text(s.Name) }

func (t *Table) title() string { return "table inet " + escape.Text(t.Name) }

func (c *Chain) title() string { return "chain " + escape.Text(c.Name) }

// Declaration is what the set is, without its elements, on one line.
func (s *Set) Declaration() string { return strings.Join(s.declaration(), "; ") }

func (s *Set) declaration() []string {
	typ := "type " + joinTypes(s.Key)
	if s.Verdicts {
		typ += " : verdict"
	}
	lines := []string{typ}
	if s.Size > 0 {
		lines = append(lines, fmt.Sprintf("size %d", s.Size))
	}
	if flags := s.flags(); flags != "" {
		lines = append(lines, "flags "+flags)
	}
	if s.Counters {
		lines = append(lines, "counter")
	}
	if s.Timeout > 0 {
		lines = append(lines, "timeout "+nftDuration(s.Timeout))
	}
	if s.Sweep > 0 {
		lines = append(lines, "gc-interval "+nftDuration(s.Sweep))
	}
	if s.Live {
		lines = append(lines, "comment "+quote(LiveComment))
	}
	if s.Others != "" {
		lines = append(lines, unknown(strings.TrimSpace(s.Others)))
	}
	return lines
}

// LiveComment is the comment by which a kernel's set is known to be live.
const LiveComment = "changes at run time"

func (p *printer) set(s *Set) {
	p.block(s.title(), func() {
		for _, l := range s.declaration() {
			p.line("%s", l)
		}
		if len(s.Elements) > 0 {
			p.elements(s)
		}
	})
}

func (p *printer) elements(s *Set) {
	if p.most > 0 && len(s.Elements) > p.most {
		p.line("# %d elements", len(s.Elements))
		return
	}
	const perLine = 4
	p.line("elements = {")
	p.indent++
	for i := 0; i < len(s.Elements); i += perLine {
		chunk := s.Elements[i:min(i+perLine, len(s.Elements))]
		words := make([]string, len(chunk))
		for j, e := range chunk {
			words[j] = e.Text(s.Key)
		}
		end := ","
		if i+perLine >= len(s.Elements) {
			end = ""
		}
		p.line("%s%s", strings.Join(words, ", "), end)
	}
	p.indent--
	p.line("}")
}

func (s *Set) flags() string {
	var words []string
	for _, f := range []struct {
		on   bool
		name string
	}{{s.Interval, "interval"}, {s.Dynamic, "dynamic"}, {s.Expires, "timeout"}} {
		if f.on {
			words = append(words, f.name)
		}
	}
	return strings.Join(words, ",")
}

// nftDuration is a time as nft writes it: 1d2h3m4s500ms.
func nftDuration(d time.Duration) string {
	var b strings.Builder
	for _, u := range []struct {
		name string
		unit time.Duration
	}{{"d", 24 * time.Hour}, {"h", time.Hour}, {"m", time.Minute}, {"s", time.Second}, {"ms", time.Millisecond}} {
		if n := d / u.unit; n > 0 {
			fmt.Fprintf(&b, "%d%s", n, u.name)
			d -= n * u.unit
		}
	}
	return b.String()
}

func joinTypes(types []DataType) string {
	words := make([]string, len(types))
	for i, t := range types {
		words[i] = t.String()
	}
	return strings.Join(words, " . ")
}

// Text is the element as nft writes it in a set with that key.
func (e Element) Text(key []DataType) string {
	words := make([]string, len(e.Key))
	for i, r := range e.Key {
		typ := noType
		if i < len(key) {
			typ = key[i]
		}
		words[i] = typ.FormatRange(r)
	}
	text := strings.Join(words, " . ")
	if e.Timeout > 0 {
		text += " timeout " + nftDuration(e.Timeout)
	}
	if e.Comment != "" {
		text += " comment " + quote(e.Comment)
	}
	if e.Verdict != (Verdict{}) {
		text += " : " + e.Verdict.text(nil)
	}
	return text
}

func (p *printer) chain(c *Chain) {
	p.block(c.title(), func() {
		if c.Base != nil {
			p.line("%s", c.Base)
		}
		if c.Others != "" {
			p.line("%s", unknown(c.Others))
		}
		for _, r := range c.Rules {
			p.line("%s", r)
		}
	})
}

// String is the base as nft writes it, with the priority as a number.
func (b Base) String() string {
	devices := ""
	if len(b.Devices) > 0 {
		devices = " devices = { " + strings.Join(mapped(b.Devices, quote), ", ") + " }"
	}
	policy := "accept"
	if b.Drop {
		policy = "drop"
	}
	return fmt.Sprintf("type %s hook %s%s priority %d; policy %s;", escape.Text(string(b.Type)), b.Hook, devices, b.Priority, policy)
}

func joinSelectors(key []Selector) string {
	words := make([]string, len(key))
	for i, s := range key {
		words[i] = s.String()
	}
	return strings.Join(words, " . ")
}

func (m Match) text(p *printer) string {
	key := joinSelectors(m.Key)
	named := len(m.Key) == 1 && m.Key[0].Type().bitmask()
	value, one := m.single()
	if named && m.Negated && one && m.Mask != "" && value == zeros(len(value)) {
		// any of these: a plain list, to nft
		return key + " " + strings.ReplaceAll(m.Key[0].Type().Format(m.Mask), " | ", ",")
	}
	if one && len(m.Key) == 1 && m.Key[0].Type() == InetService && p.again() && m.Mask == "" {
		m.Mask = ones(len(value))
	}
	op := " "
	switch {
	case m.Negated:
		op = " != "
	case m.Mask != "" || named && one:
		op = " == "
	}
	if m.Mask != "" && len(m.Key) == 1 {
		key += " & " + maskText(m.Key[0].Type(), m.Mask)
	}
	if m.Set != "" {
		return key + op + "@" + escape.Text(m.Set)
	}
	values := elementTexts(m.Elements, m.Types())
	if len(values) == 1 && !m.Anonymous() {
		return key + op + values[0]
	}
	return key + op + "{ " + strings.Join(values, ", ") + " }"
}

// again reports whether the rule has compared a port before. nft 1.0.6 makes
// one comparison of two ports, across whatever stands between them and even of
// two `!=`, unless one is under a mask.
func (p *printer) again() bool {
	if p == nil {
		return false
	}
	defer func() { p.ports++ }()
	return p.ports > 0
}

func maskText(typ DataType, mask Bits) string {
	text := typ.Format(mask)
	if strings.Contains(text, "|") {
		return "(" + text + ")"
	}
	return text
}

func elementTexts(elements []Element, types []DataType) []string {
	words := make([]string, len(elements))
	for i, e := range elements {
		words[i] = e.Text(types)
	}
	return words
}

func (v Verdict) text(*printer) string {
	if v.Chain != "" {
		return v.Kind.String() + " " + escape.Text(v.Chain)
	}
	return v.Kind.String()
}

func (v VMap) text(*printer) string {
	key := joinSelectors(v.Key) + " vmap "
	if v.Map != "" {
		return key + "@" + escape.Text(v.Map)
	}
	return key + "{ " + strings.Join(elementTexts(v.Elements, v.Types()), ", ") + " }"
}

func (Counter) text(*printer) string { return "counter" }

func (r Redirect) text(*printer) string {
	if r.Ports == nil {
		return "redirect"
	}
	return "redirect to :" + InetService.FormatRange(*r.Ports)
}

func (n SNAT) text(*printer) string {
	family := "ip"
	if AddressFamily(n.To) == IPv6 {
		family = "ip6"
	}
	return "snat " + family + " to " + n.To.String()
}

func (t TProxy) text(*printer) string {
	family, addr := "", ""
	switch t.Family {
	case IPv4:
		family = "ip "
		if t.Addr != "" {
			addr = IPv4Addr.Format(t.Addr)
		}
	case IPv6:
		family = "ip6 "
		if t.Addr != "" {
			addr = "[" + IPv6Addr.Format(t.Addr) + "]"
		}
	}
	if t.Port == 0 {
		return "tproxy " + family + "to " + addr
	}
	return fmt.Sprintf("tproxy %sto %s:%d", family, addr, t.Port)
}

func (Reject) text(*printer) string { return "reject with tcp reset" }

func (a Assign) text(*printer) string {
	typ := a.To.Type()
	set := a.To.String() + " set "
	if a.From == 0 {
		return set + typ.Format(a.Xor)
	}
	value := a.From.String()
	if a.Mask != ones(len(a.Mask)) {
		value += " & " + typ.Format(a.Mask)
	}
	if a.Xor == zeros(len(a.Xor)) {
		return set + value
	}
	op := " | "
	if a.Mask.Uint64()&a.Xor.Uint64() != 0 {
		op = " ^ "
	}
	return set + value + op + typ.Format(a.Xor)
}

func (NoTrack) text(*printer) string { return "notrack" }

func (o Opaque) text(*printer) string { return unknown(o.Name) }

// unknown names what the model does not know. nft refuses a script that holds it:
// without that part it would load another ruleset.
func unknown(what string) string { return "<unknown: " + escape.Text(what) + ">" }
