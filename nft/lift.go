package nft

import (
	"net/netip"
	"strings"

	"github.com/google/nftables/expr"
	"github.com/weir-mesh/weir/internal/nl"
	"github.com/weir-mesh/weir/rules"
	"golang.org/x/sys/unix"
)

// lifter turns the expressions of one rule back into nodes. It follows what
// each register holds; a run of expressions that makes no node it knows becomes
// an opaque one, so that nothing is ever dropped.
type lifter struct {
	sets      map[string]*rules.Set // by the names in lookups; an anonymous one's own name is empty
	registers [registerWords]*operand
	loads     []*operand
	known     known
	nodes     []rules.Node
	read      int          // how many expressions
	pending   []expression // of them, since the last node
	lower     *operand     // has met the lower end of a range; the upper must follow
}

const registerWords = 16 // NFT_REG32_00 to NFT_REG32_15

type expression struct {
	name string
	raw  []byte
}

// operand is what a register holds.
type operand struct {
	selector  rules.Selector // 0: the constant
	constant  []byte
	bytes     uint32 // of a payload: how many of the first bytes
	mask, xor []byte
	turned    bool // in network byte order by a byteorder expression
	word      int  // the first 32-bit word that it is in
	lower     []byte
	used      bool
	from      expression
	order     int // of that among the expressions
}

// liftRule lifts a list of expressions. Family is that of the table's packets, 0
// where it sees several.
func liftRule(exprs [][]byte, sets map[string]*rules.Set, family rules.Family) []rules.Node {
	l := &lifter{sets: sets, known: known{family: family}}
	for _, raw := range exprs {
		a, err := nl.Decode(raw)
		if err != nil {
			l.take(expression{"undecodable", raw})
			l.unknown()
			continue
		}
		e := expression{a.Text(unix.NFTA_EXPR_NAME), raw}
		inner, err := nl.Decode(a.Take(unix.NFTA_EXPR_DATA))
		if l.lower != nil && e.name != "cmp" {
			l.unknown()
		}
		l.take(e)
		if err != nil || !l.expression(e, inner) {
			l.unknown()
		}
	}
	l.finish()
	return l.nodes
}

func (l *lifter) take(e expression) {
	l.read++
	l.pending = append(l.pending, e)
}

func (l *lifter) node(n rules.Node) bool {
	l.nodes = append(l.nodes, n)
	l.pending = nil
	return true
}

// unknown makes an opaque node of what is pending, and forgets what the
// registers held.
func (l *lifter) unknown() {
	l.registers = [registerWords]*operand{}
	l.lower = nil
	l.nodes = append(l.nodes, opaque(l.pending))
	for _, o := range l.loads {
		o.used = o.used || o.order > l.read-len(l.pending) // it is part of the opaque node
	}
	l.pending = nil
}

func opaque(exprs []expression) rules.Opaque {
	var names []string
	var raw []byte
	for _, e := range exprs {
		names = append(names, e.name)
		raw = attribute{typ: unix.NLA_F_NESTED | unix.NFTA_LIST_ELEM, data: e.raw}.appendTo(raw)
	}
	return rules.Opaque{Name: strings.Join(names, " "), Raw: rules.Bits(raw)}
}

// finish turns reads that nothing used into opaque nodes: even an unused read
// can end a rule, where the packet has no such field.
func (l *lifter) finish() {
	if len(l.pending) > 0 {
		l.unknown()
	}
	for _, o := range l.loads {
		if !o.used {
			l.nodes = append(l.nodes, opaque([]expression{o.from}))
		}
	}
}

// word is the index of the first 32-bit word of a register.
func word(register uint32) (int, bool) {
	switch {
	case register >= unix.NFT_REG_1 && register <= unix.NFT_REG_4:
		return int(register-unix.NFT_REG_1) * 4, true
	case register >= unix.NFT_REG32_00 && register <= unix.NFT_REG32_15:
		return int(register - unix.NFT_REG32_00), true
	}
	return 0, false
}

func (l *lifter) set(register uint32, o *operand) bool {
	w, ok := word(register)
	words := nl.Align(o.length()) / 4
	if !ok || words == 0 || w+words > registerWords {
		return false
	}
	o.word, o.order = w, l.read
	for i := range words {
		l.registers[w+i] = o
	}
	l.loads = append(l.loads, o)
	return true
}

// get is what a register holds, and false where that begins elsewhere or was
// written over in part.
func (l *lifter) get(register uint32) (*operand, bool) {
	w, ok := word(register)
	if !ok {
		return nil, false
	}
	return l.at(w)
}

func (l *lifter) at(w int) (*operand, bool) {
	if w >= registerWords || l.registers[w] == nil || l.registers[w].word != w {
		return nil, false
	}
	o := l.registers[w]
	for i := range nl.Align(o.length()) / 4 {
		if l.registers[w+i] != o {
			return nil, false
		}
	}
	o.used = true
	return o, true
}

func (o *operand) length() int {
	switch {
	case o.selector == 0:
		return len(o.constant)
	case o.bytes > 0:
		return int(o.bytes)
	}
	return o.selector.Type().Len()
}

// expression takes one expression in; false means that it, or the way it is
// used, is not known.
func (l *lifter) expression(e expression, a nl.Attributes) bool {
	switch e.name {
	case "meta":
		if a.Has(unix.NFTA_META_SREG) {
			key, found := keyOf(metas, expr.MetaKey(a.Number(unix.NFTA_META_KEY)))
			return l.assign(key, uint32(a.Number(unix.NFTA_META_SREG)), found && a.AllTaken())
		}
		return l.load(e, a)
	case "ct":
		if a.Has(unix.NFTA_CT_SREG) {
			key, found := ctSelector(a)
			return l.assign(key, uint32(a.Number(unix.NFTA_CT_SREG)), found && a.AllTaken())
		}
		return l.load(e, a)
	case "payload", "fib", "socket":
		return l.load(e, a)
	case "bitwise":
		return l.bitwise(a)
	case "byteorder":
		return l.byteorder(a)
	case "cmp":
		return l.cmp(a)
	case "range":
		return l.span(a)
	case "lookup":
		return l.lookup(a)
	case "immediate":
		return l.immediate(e, a)
	case "counter":
		return l.node(rules.Counter{Packets: a.Number(unix.NFTA_COUNTER_PACKETS), Bytes: a.Number(unix.NFTA_COUNTER_BYTES)})
	case "redir":
		return l.redirect(a)
	case "nat":
		return l.snat(a)
	case "tproxy":
		return l.tproxy(a)
	case "notrack":
		return a.AllTaken() && l.node(rules.NoTrack{})
	}
	return false
}

func (l *lifter) load(e expression, a nl.Attributes) bool {
	s, register, bytes, ok := loaded(e.name, a, l.known)
	if !ok {
		return false
	}
	o := &operand{selector: s, bytes: bytes, from: e}
	return l.set(register, o)
}

func (l *lifter) bitwise(a nl.Attributes) bool {
	src, dst := a.Number(unix.NFTA_BITWISE_SREG), a.Number(unix.NFTA_BITWISE_DREG)
	length, op := a.Number(unix.NFTA_BITWISE_LEN), a.Number(nftaBitwiseOp)
	mask, xor := dataValue(a.Take(unix.NFTA_BITWISE_MASK)), dataValue(a.Take(unix.NFTA_BITWISE_XOR))
	o, ok := l.get(uint32(src))
	if !ok || src != dst || op != 0 || !a.AllTaken() || o.mask != nil || o.turned || o.selector == 0 ||
		int(length) != o.length() || len(mask) != o.length() || len(xor) != o.length() {
		return false
	}
	o.mask, o.xor = mask, xor
	o.used = false
	return true
}

func (l *lifter) byteorder(a nl.Attributes) bool {
	src, dst := a.Number(unix.NFTA_BYTEORDER_SREG), a.Number(unix.NFTA_BYTEORDER_DREG)
	op, length, size := a.Number(unix.NFTA_BYTEORDER_OP), a.Number(unix.NFTA_BYTEORDER_LEN), a.Number(unix.NFTA_BYTEORDER_SIZE)
	o, ok := l.get(uint32(src))
	if !ok || src != dst || op != unix.NFT_BYTEORDER_HTON || !a.AllTaken() || o.turned || o.selector == 0 || int(length) != o.length() {
		return false
	}
	o.used = false
	if length == 1 {
		return size == 2 // nft 1.0.6 turns a single byte in a concatenation: nothing changes
	}
	o.turned = o.selector.Type().HostOrder() && length == size
	return o.turned
}

// value is a constant that is compared with the operand, most significant byte
// first.
func (o *operand) value(data []byte) rules.Bits {
	if o.turned {
		return rules.Bits(data)
	}
	return unwire(o.selector.Type(), data)
}

func (o *operand) maskBits() (rules.Bits, bool) {
	if o.mask == nil {
		return "", allZeros(o.xor)
	}
	return unwire(o.selector.Type(), o.mask), allZeros(o.xor)
}

func (l *lifter) cmp(a nl.Attributes) bool {
	o, ok := l.get(uint32(a.Number(unix.NFTA_CMP_SREG)))
	op := expr.CmpOp(a.Number(unix.NFTA_CMP_OP))
	data := dataValue(a.Take(unix.NFTA_CMP_DATA))
	if !ok || !a.AllTaken() || o.selector == 0 || len(data) == 0 || len(data) > o.length() || l.lower != nil && op != expr.CmpOpLte {
		return false
	}
	switch op {
	case expr.CmpOpEq, expr.CmpOpNeq:
		return l.equal(o, data, op == expr.CmpOpNeq)
	case expr.CmpOpGte:
		o.lower, l.lower = data, o
		return len(data) == o.length() && o.mask == nil && o.ordered()
	case expr.CmpOpLte:
		lo := o.lower
		if l.lower != o || len(data) != len(lo) {
			return false
		}
		l.lower = nil
		return l.matched(o, rules.Match{Elements: oneRange(rules.Range{Lo: o.value(lo), Hi: o.value(data)})})
	}
	return false
}

// ordered reports whether the kernel's comparison of bytes is one of values.
func (o *operand) ordered() bool { return o.turned || !o.selector.Type().HostOrder() }

func oneRange(r rules.Range) []rules.Element { return []rules.Element{{Key: []rules.Range{r}}} }

func (l *lifter) equal(o *operand, data []byte, negated bool) bool {
	d := o.selector.Type()
	m := rules.Match{Negated: negated}
	switch {
	case len(data) == d.Len() && o.mask == nil:
		m.Elements = oneRange(rules.Range{Lo: o.value(data), Hi: o.value(data)})
	case len(data) == d.Len():
		mask, plain := o.maskBits()
		if !plain || o.turned {
			return false
		}
		value := o.value(data)
		m.Mask, m.Elements = mask, oneRange(rules.Range{Lo: value, Hi: value})
	case len(data) == o.length() && o.mask == nil || d == rules.IfNameType && o.mask == nil:
		// the first bytes alone: a prefix, or a wildcard
		full := rules.Bits(append(append([]byte{}, data...), make([]byte, d.Len()-len(data))...))
		m.Elements = oneRange(firstBits(full, len(data)*8))
	default:
		return false
	}
	return l.matched(o, m)
}

// firstBits is the range of all values that begin with the first bits of v.
func firstBits(v rules.Bits, bits int) rules.Range {
	hi := []byte(v)
	mask := prefixMask(bits, len(v))
	for i := range hi {
		hi[i] |= ^mask[i]
	}
	return rules.Range{Lo: v, Hi: rules.Bits(hi)}
}

func (l *lifter) matched(o *operand, m rules.Match) bool {
	m.Key = []rules.Selector{o.selector}
	l.known.learn(m)
	return l.node(m)
}

func (l *lifter) span(a nl.Attributes) bool {
	o, ok := l.get(uint32(a.Number(unix.NFTA_RANGE_SREG)))
	op := a.Number(unix.NFTA_RANGE_OP)
	lo, hi := dataValue(a.Take(unix.NFTA_RANGE_FROM_DATA)), dataValue(a.Take(unix.NFTA_RANGE_TO_DATA))
	if !ok || !a.AllTaken() || op > unix.NFT_RANGE_NEQ || o.selector == 0 || o.mask != nil || !o.ordered() || len(lo) != o.selector.Type().Len() || len(hi) != len(lo) {
		return false
	}
	return l.matched(o, rules.Match{Negated: op == unix.NFT_RANGE_NEQ, Elements: oneRange(rules.Range{Lo: o.value(lo), Hi: o.value(hi)})})
}

func (l *lifter) lookup(a nl.Attributes) bool {
	name := a.Text(unix.NFTA_LOOKUP_SET)
	register := uint32(a.Number(unix.NFTA_LOOKUP_SREG))
	isMap := a.Has(unix.NFTA_LOOKUP_DREG)
	dreg := a.Number(unix.NFTA_LOOKUP_DREG)
	flags := a.Number(unix.NFTA_LOOKUP_FLAGS)
	a.Take(unix.NFTA_LOOKUP_SET_ID)
	set := l.sets[name]
	if !a.AllTaken() || flags&^unix.NFT_LOOKUP_F_INV != 0 || isMap && dreg != unix.NFT_REG_VERDICT || set == nil || isMap != set.Verdicts {
		return false
	}
	inline := set.Name == "" // an anonymous set: its elements are the rule's own
	key, mask, ok := l.key(register, set)
	if !ok || inline && set.Others != "" {
		return false
	}
	if isMap {
		v := rules.VMap{Key: key, Map: set.Name}
		if inline {
			v.Elements = set.Elements
		}
		return mask == "" && flags == 0 && l.node(v)
	}
	m := rules.Match{Key: key, Mask: mask, Negated: flags != 0, Set: set.Name}
	if inline {
		m.Elements = set.Elements
	}
	return l.node(m)
}

// key is the concatenation of selectors that a lookup in the set reads.
func (l *lifter) key(register uint32, set *rules.Set) (key []rules.Selector, mask rules.Bits, ok bool) {
	w, ok := word(register)
	for _, d := range set.Key {
		o, held := l.at(w)
		if !held || o.selector == 0 || o.selector.Type() != d || o.length() != d.Len() ||
			o.turned != (set.Interval && d.HostOrder()) || o.mask != nil && len(set.Key) > 1 {
			return nil, "", false
		}
		var plain bool
		if mask, plain = o.maskBits(); !plain {
			return nil, "", false
		}
		key = append(key, o.selector)
		w += nl.Align(d.Len()) / 4
	}
	return key, mask, ok && len(key) > 0
}

func (l *lifter) immediate(e expression, a nl.Attributes) bool {
	register := uint32(a.Number(unix.NFTA_IMMEDIATE_DREG))
	data := a.Take(unix.NFTA_IMMEDIATE_DATA)
	if !a.AllTaken() {
		return false
	}
	if register == unix.NFT_REG_VERDICT {
		v, ok := liftVerdict(data)
		return ok && l.node(v)
	}
	return l.set(register, &operand{constant: dataValue(data), from: e})
}

func liftVerdict(data []byte) (rules.Verdict, bool) {
	outer, err := nl.Decode(data)
	if err != nil {
		return rules.Verdict{}, false
	}
	a, err := nl.Decode(outer.Take(unix.NFTA_DATA_VERDICT))
	if err != nil || !a.Has(unix.NFTA_VERDICT_CODE) {
		return rules.Verdict{}, false
	}
	code, chain := int32(a.Number(unix.NFTA_VERDICT_CODE)), a.Text(unix.NFTA_VERDICT_CHAIN)
	for kind, c := range verdictCodes {
		if c == code && a.AllTaken() {
			return rules.Verdict{Kind: kind, Chain: chain}, true
		}
	}
	return rules.Verdict{}, false
}

// constantIn is the constant of that length which a register holds.
func (l *lifter) constantIn(register uint32, length int) (rules.Bits, bool) {
	o, ok := l.get(register)
	if !ok || o.selector != 0 || len(o.constant) != length {
		return "", false
	}
	return rules.Bits(o.constant), true
}

func (l *lifter) assign(to rules.Selector, register uint32, known bool) bool {
	o, ok := l.get(register)
	if !known || !ok || o.turned {
		return false
	}
	d := to.Type()
	switch to {
	case rules.MetaMark.Selector(), rules.CTMark.Selector(), rules.CTZone.Selector(), rules.CTOriginalZone.Selector():
	default:
		return false
	}
	n := rules.Assign{To: to}
	switch {
	case o.selector == 0:
		if len(o.constant) != d.Len() {
			return false
		}
		n.Xor = unwire(d, o.constant)
	case o.selector.Type() != d || o.length() != d.Len():
		return false
	case o.mask == nil:
		n.From, n.Mask, n.Xor = o.selector, prefixMask(d.Len()*8, d.Len()), prefixMask(0, d.Len())
	default:
		n.From, n.Mask, n.Xor = o.selector, unwire(d, o.mask), unwire(d, o.xor)
	}
	return l.node(n)
}

func (l *lifter) redirect(a nl.Attributes) bool {
	upper := a.Has(unix.NFTA_REDIR_REG_PROTO_MAX)
	min, max := uint32(a.Number(unix.NFTA_REDIR_REG_PROTO_MIN)), uint32(a.Number(unix.NFTA_REDIR_REG_PROTO_MAX))
	flags := a.Number(unix.NFTA_REDIR_FLAGS)
	if !a.AllTaken() {
		return false
	}
	if min == 0 {
		return flags == 0 && !upper && l.node(rules.Redirect{})
	}
	lo, ok := l.constantIn(min, 2)
	if !ok || flags != unix.NF_NAT_RANGE_PROTO_SPECIFIED {
		return false
	}
	hi := lo
	if upper {
		if hi, ok = l.constantIn(max, 2); !ok {
			return false
		}
	}
	return l.node(rules.Redirect{Ports: &rules.Range{Lo: lo, Hi: hi}})
}

// snat is a source NAT to one address; the kernel tells the lower end of a range
// for the upper one too, and that addresses are mapped.
func (l *lifter) snat(a nl.Attributes) bool {
	typ, family := a.Number(unix.NFTA_NAT_TYPE), a.Number(unix.NFTA_NAT_FAMILY)
	upper := a.Has(unix.NFTA_NAT_REG_ADDR_MAX)
	min, max := uint32(a.Number(unix.NFTA_NAT_REG_ADDR_MIN)), uint32(a.Number(unix.NFTA_NAT_REG_ADDR_MAX))
	flagged, flags := a.Has(unix.NFTA_NAT_FLAGS), a.Number(unix.NFTA_NAT_FLAGS)
	if !a.AllTaken() || typ != unix.NFT_NAT_SNAT || upper && max != min || flagged && flags != unix.NF_NAT_RANGE_MAP_IPS {
		return false
	}
	bits, ok := l.constantIn(min, addressLengths[family])
	to, isAddress := netip.AddrFromSlice([]byte(bits))
	return ok && isAddress && l.node(rules.SNAT{To: to})
}

// addressLengths are those of the kernel's numbers for families.
var addressLengths = map[uint64]int{unix.NFPROTO_IPV4: 4, unix.NFPROTO_IPV6: 16}

func (l *lifter) tproxy(a nl.Attributes) bool {
	family := a.Number(nftaTProxyFamily)
	n := rules.TProxy{Family: rules.Family(family)}
	addr, port := uint32(a.Number(nftaTProxyRegAddr)), uint32(a.Number(nftaTProxyRegPort))
	if _, known := addressLengths[family]; !a.AllTaken() || !known && family != 0 {
		return false
	}
	if addr != 0 {
		var ok bool
		if n.Addr, ok = l.constantIn(addr, addressLengths[family]); !ok {
			return false
		}
	}
	if port != 0 {
		bits, ok := l.constantIn(port, 2)
		if !ok {
			return false
		}
		n.Port = rules.Port(uint16(bits[0])<<8 | uint16(bits[1]))
	}
	return l.node(n)
}
