package nft

import (
	"fmt"
	"time"

	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"github.com/mdlayher/netlink"
	"github.com/weir-mesh/weir/internal/nl"
	"github.com/weir-mesh/weir/rules"
	"golang.org/x/sys/unix"
)

// lowering turns a table into the messages of a batch.
type lowering struct {
	*batch
	table  string
	sets   map[string]*rules.Set
	nextID uint32 // of anonymous sets, within the batch
}

func lower(b *batch, t *rules.Table) *lowering {
	l := &lowering{batch: b, table: t.Name, sets: map[string]*rules.Set{}}
	for _, s := range t.Sets {
		l.sets[s.Name] = s
	}
	return l
}

// object starts the attributes of every message: nf_tables numbers the table's
// name 1 throughout.
func (l *lowering) object(fill func(*netlink.AttributeEncoder)) []byte {
	return encode(func(ae *netlink.AttributeEncoder) {
		ae.String(unix.NFTA_TABLE_NAME, l.table)
		if fill != nil {
			fill(ae)
		}
	})
}

func (l *lowering) addTable() {
	l.add(newTable(l, 0, netlink.Create))
}

func (l *lowering) deleteTable() {
	l.add(change{typ: unix.NFT_MSG_DELTABLE, where: "table inet " + l.table, kind: "table", data: l.object(nil)})
}

// addAll adds sets, chains and rules to the table; sets that skip names are
// there already.
func (l *lowering) addAll(t *rules.Table, skip func(*rules.Set) bool) {
	for _, c := range t.Chains {
		l.addChain(c)
	}
	for _, s := range t.Sets {
		if skip == nil || !skip(s) {
			l.addSet(s)
			l.addElements(s, s.Elements)
		}
	}
	for _, c := range t.Chains {
		for i, r := range c.Rules {
			l.addRule(c.Name, i, r)
		}
	}
}

func (l *lowering) addChain(c *rules.Chain) {
	kind := "chain"
	data := l.object(func(ae *netlink.AttributeEncoder) {
		ae.String(unix.NFTA_CHAIN_NAME, c.Name)
		if b := c.Base; b != nil {
			nested(ae, unix.NFTA_CHAIN_HOOK, func(ae *netlink.AttributeEncoder) { hookAttrs(ae, b) })
			policy := uint32(1) // NF_ACCEPT
			if b.Drop {
				policy = 0
			}
			ae.Uint32(unix.NFTA_CHAIN_POLICY, policy)
			ae.String(unix.NFTA_CHAIN_TYPE, string(b.Type))
		}
	})
	if c.Base != nil && c.Base.Type == rules.NATType {
		kind = "nat"
	}
	l.add(change{typ: unix.NFT_MSG_NEWCHAIN, flags: netlink.Create, where: "chain " + c.Name, kind: kind, data: data})
}

func hookAttrs(ae *netlink.AttributeEncoder, b *rules.Base) {
	ae.Uint32(unix.NFTA_HOOK_HOOKNUM, uint32(b.Hook))
	ae.Uint32(unix.NFTA_HOOK_PRIORITY, uint32(b.Priority))
	if len(b.Devices) > 0 {
		nested(ae, nftaHookDevs, func(ae *netlink.AttributeEncoder) {
			for _, d := range b.Devices {
				ae.String(nftaDeviceName, d)
			}
		})
	}
}

func (l *lowering) flushChain(name string) {
	l.add(change{typ: unix.NFT_MSG_DELRULE, where: "chain " + name, kind: "chain",
		data: l.object(func(ae *netlink.AttributeEncoder) { ae.String(unix.NFTA_RULE_CHAIN, name) })})
}

func (l *lowering) deleteChain(name string) {
	l.add(change{typ: unix.NFT_MSG_DELCHAIN, where: "chain " + name, kind: "chain",
		data: l.object(func(ae *netlink.AttributeEncoder) { ae.String(unix.NFTA_CHAIN_NAME, name) })})
}

func (l *lowering) deleteSet(name string) {
	l.add(change{typ: unix.NFT_MSG_DELSET, where: "set " + name, kind: "set",
		data: l.object(func(ae *netlink.AttributeEncoder) { ae.String(unix.NFTA_SET_NAME, name) })})
}

// declaration is a set's message with what named and anonymous sets share.
func (l *lowering) declaration(s *rules.Set, flags uint32, id uint32) []byte {
	magic, length := keyLayout(s.Key)
	if s.Interval {
		flags |= unix.NFT_SET_INTERVAL
	}
	concatRanges := s.Interval && len(s.Key) > 1
	if concatRanges {
		flags |= setConcat
	}
	if s.Verdicts {
		flags |= unix.NFT_SET_MAP
	}
	if s.Dynamic {
		flags |= unix.NFT_SET_EVAL
	}
	if s.Expires {
		flags |= unix.NFT_SET_TIMEOUT
	}
	return l.object(func(ae *netlink.AttributeEncoder) {
		ae.String(unix.NFTA_SET_NAME, s.Name)
		ae.Uint32(unix.NFTA_SET_FLAGS, flags)
		ae.Uint32(unix.NFTA_SET_KEY_TYPE, magic)
		ae.Uint32(unix.NFTA_SET_KEY_LEN, length)
		ae.Uint32(unix.NFTA_SET_ID, id)
		if s.Verdicts {
			ae.Uint32(unix.NFTA_SET_DATA_TYPE, verdictDataType)
		}
		if s.Size > 0 || concatRanges {
			nested(ae, unix.NFTA_SET_DESC, func(ae *netlink.AttributeEncoder) {
				if s.Size > 0 {
					ae.Uint32(unix.NFTA_SET_DESC_SIZE, s.Size)
				}
				if concatRanges {
					nested(ae, nftaSetDescConcat, func(ae *netlink.AttributeEncoder) { fieldLengths(ae, s.Key) })
				}
			})
		}
		if s.Timeout > 0 {
			ae.Uint64(unix.NFTA_SET_TIMEOUT, uint64(s.Timeout/time.Millisecond))
		}
		if s.Sweep > 0 {
			ae.Uint32(unix.NFTA_SET_GC_INTERVAL, uint32(s.Sweep/time.Millisecond))
		}
		if s.Counters {
			ae.Bytes(unix.NLA_F_NESTED|nftaSetExpr, marshal(&expr.Counter{}))
		}
		ae.Bytes(unix.NFTA_SET_USERDATA, setUserdata(s))
	})
}

// setUserdata is what nft wants to know of a set to list it right: the byte
// order of its keys, and a comment.
func setUserdata(s *rules.Set) []byte {
	data := userdata.AppendUint32(nil, userdata.NFTNL_UDATA_SET_KEYBYTEORDER, byteOrder(s.Key))
	if s.Interval && !s.Verdicts && len(s.Key) == 1 {
		data = userdata.AppendUint32(data, userdata.NFTNL_UDATA_SET_MERGE_ELEMENTS, 0)
	}
	if s.Live {
		data = userdata.AppendString(data, userdata.NFTNL_UDATA_SET_COMMENT, rules.LiveComment)
	}
	return data
}

// byteOrder is nft's word for the order of a type's bytes, whatever the kernel
// makes of it in an interval set (enum byteorder of nftables' datatype.h).
func byteOrder(key []rules.DataType) uint32 {
	const none, host, bigEndian = 0, 1, 2
	if len(key) != 1 || key[0].Len() == 1 && key[0] != rules.TCPFlags.Type() { // of single bytes nft gives an order to this type alone
		return none
	}
	if _, isHost := key[0].Magic(); isHost {
		return host
	}
	return bigEndian
}

func fieldLengths(ae *netlink.AttributeEncoder, key []rules.DataType) {
	for _, d := range key {
		nested(ae, unix.NFTA_LIST_ELEM, func(ae *netlink.AttributeEncoder) { ae.Uint32(nftaSetFieldLen, uint32(d.Len())) })
	}
}

// keyLayout is nft's number for the type of a key, and its length, in which
// each part of a concatenation takes whole 32-bit registers.
func keyLayout(key []rules.DataType) (magic, length uint32) {
	if len(key) == 1 {
		magic, _ = key[0].Magic()
		return magic, uint32(key[0].Len())
	}
	for _, d := range key {
		m, _ := d.Magic()
		magic = magic<<magicTypeBits | m
		length += uint32(nl.Align(d.Len()))
	}
	return magic, length
}

func (l *lowering) addSet(s *rules.Set) {
	l.nextID++
	l.add(change{typ: unix.NFT_MSG_NEWSET, flags: netlink.Create, where: "set " + s.Name, kind: "set",
		data: l.declaration(s, 0, l.nextID)})
}

// addAnonymous adds a set for one rule and returns its number in the batch.
func (l *lowering) addAnonymous(where string, s *rules.Set) uint32 {
	l.nextID++
	s.Name = anonymousName(s)
	l.add(change{typ: unix.NFT_MSG_NEWSET, flags: netlink.Create, where: where, kind: "set",
		data: l.declaration(s, unix.NFT_SET_ANONYMOUS|unix.NFT_SET_CONSTANT, l.nextID)})
	l.elements(unix.NFT_MSG_NEWSETELEM, where, s, l.nextID, s.Elements)
	return l.nextID
}

// anonymousName is the pattern by which the kernel names an anonymous set.
func anonymousName(s *rules.Set) string {
	if s.Verdicts {
		return "__map%d"
	}
	return "__set%d"
}

func (l *lowering) addElements(s *rules.Set, elements []rules.Element) {
	l.elements(unix.NFT_MSG_NEWSETELEM, "set "+s.Name, s, 0, elements)
}

func (l *lowering) deleteElements(s *rules.Set, elements []rules.Element) {
	l.elements(unix.NFT_MSG_DELSETELEM, "set "+s.Name, s, 0, elements)
}

const maxElementBytes = 48 << 10 // of one message's list: an attribute holds 64 KiB

// elements adds or deletes elements, in as many messages as they need.
func (l *lowering) elements(typ int, where string, s *rules.Set, id uint32, elements []rules.Element) {
	var list []byte
	send := func() {
		if len(list) == 0 {
			return
		}
		l.add(change{typ: typ, flags: netlink.Create, where: where, kind: "set", data: l.object(func(ae *netlink.AttributeEncoder) {
			ae.String(unix.NFTA_SET_ELEM_LIST_SET, s.Name)
			if id != 0 {
				ae.Uint32(unix.NFTA_SET_ELEM_LIST_SET_ID, id)
			}
			ae.Bytes(unix.NLA_F_NESTED|unix.NFTA_SET_ELEM_LIST_ELEMENTS, list)
		})})
		list = nil
	}
	for _, e := range elements {
		list = appendElement(list, s, e)
		if len(list) > maxElementBytes {
			send()
		}
	}
	send()
}

// appendElement appends what the kernel wants for one element: one entry, or
// for an interval of a plain key an entry for the start and one for the value
// after the end.
func appendElement(list []byte, s *rules.Set, e rules.Element) []byte {
	if len(s.Key) > 1 || !s.Interval {
		lo, hi := concatenated(s, e.Key)
		entry := elementAttrs{key: lo, element: &e}
		if s.Interval {
			entry.keyEnd = hi
		}
		return entry.appendTo(list)
	}
	list = elementAttrs{key: []byte(e.Key[0].Lo), element: &e}.appendTo(list)
	if after, ok := e.Key[0].After(); ok {
		list = elementAttrs{key: []byte(after), end: true}.appendTo(list)
	}
	return list
}

// concatenated are both ends of an element's key as the kernel compares them.
func concatenated(s *rules.Set, key []rules.Range) (lo, hi []byte) {
	for i, d := range s.Key {
		lo, hi = append(lo, inSet(s, d, key[i].Lo)...), append(hi, inSet(s, d, key[i].Hi)...)
		if len(s.Key) > 1 {
			pad := make([]byte, nl.Align(d.Len())-d.Len())
			lo, hi = append(lo, pad...), append(hi, pad...)
		}
	}
	return lo, hi
}

// inSet is a value as the elements of a set hold it: an interval set compares
// byte by byte, the most significant first.
func inSet(s *rules.Set, d rules.DataType, v rules.Bits) []byte {
	if s.Interval {
		return []byte(v)
	}
	return wire(d, v)
}

type elementAttrs struct {
	key, keyEnd []byte
	end         bool
	element     *rules.Element
}

func (e elementAttrs) appendTo(list []byte) []byte {
	entry := attribute{typ: unix.NLA_F_NESTED | unix.NFTA_LIST_ELEM}
	if e.end {
		entry.bytes(unix.NFTA_SET_ELEM_FLAGS, []byte{0, 0, 0, unix.NFT_SET_ELEM_INTERVAL_END})
	}
	entry.nest(unix.NFTA_SET_ELEM_KEY, unix.NFTA_DATA_VALUE, e.key)
	if e.keyEnd != nil {
		entry.nest(nftaSetElemKeyEnd, unix.NFTA_DATA_VALUE, e.keyEnd)
	}
	if el := e.element; el != nil {
		if el.Verdict.Kind != 0 {
			entry.bytes(unix.NLA_F_NESTED|unix.NFTA_SET_ELEM_DATA, verdictData(el.Verdict))
		}
		if el.Timeout > 0 {
			entry.bytes(unix.NFTA_SET_ELEM_TIMEOUT, be64(uint64(el.Timeout/time.Millisecond)))
		}
		if el.Expires > 0 {
			entry.bytes(unix.NFTA_SET_ELEM_EXPIRATION, be64(uint64(el.Expires/time.Millisecond)))
		}
		if el.Comment != "" {
			entry.bytes(unix.NFTA_SET_ELEM_USERDATA, userdata.AppendString(nil, userdata.TypeComment, el.Comment))
		}
	}
	return entry.appendTo(list)
}

func verdictData(v rules.Verdict) []byte {
	return encode(func(ae *netlink.AttributeEncoder) {
		nested(ae, unix.NFTA_DATA_VERDICT, func(ae *netlink.AttributeEncoder) {
			ae.Uint32(unix.NFTA_VERDICT_CODE, uint32(verdictCodes[v.Kind]))
			if v.Chain != "" {
				ae.String(unix.NFTA_VERDICT_CHAIN, v.Chain)
			}
		})
	})
}

// verdictCodes are the kernel's (enum nft_verdicts, and linux/netfilter.h).
var verdictCodes = map[rules.VerdictKind]int32{
	rules.AcceptKind:   1,
	rules.DropKind:     0,
	rules.ContinueKind: unix.NFT_CONTINUE,
	rules.ReturnKind:   unix.NFT_RETURN,
	rules.JumpKind:     unix.NFT_JUMP,
	rules.GotoKind:     unix.NFT_GOTO,
}

func (l *lowering) addRule(chain string, index int, r rules.Rule) {
	where := fmt.Sprintf("chain %s rule %d", chain, index+1)
	if r.Reason != "" {
		where += fmt.Sprintf(" %q", r.Reason)
	}
	w := &ruleWriter{lowering: l, where: where}
	for _, n := range r.Nodes {
		w.node(n)
	}
	data := l.object(func(ae *netlink.AttributeEncoder) {
		ae.String(unix.NFTA_RULE_CHAIN, chain)
		ae.Bytes(unix.NLA_F_NESTED|unix.NFTA_RULE_EXPRESSIONS, w.list)
		if r.Reason != "" {
			ae.Bytes(unix.NFTA_RULE_USERDATA, userdata.AppendString(nil, userdata.TypeComment, r.Reason))
		}
	})
	l.add(change{typ: unix.NFT_MSG_NEWRULE, flags: netlink.Create | netlink.Append, where: where, kind: "rule", exprs: w.names, data: data})
}

// ruleWriter lowers one rule, as nft does: a protocol or family that a selector
// implies is matched where nothing before settled it.
type ruleWriter struct {
	*lowering
	where string
	known known
	names []string
	list  []byte // NFTA_LIST_ELEM attributes, one an expression
}

func (w *ruleWriter) emit(exprs ...expr.Any) {
	for _, e := range exprs {
		w.raw(marshal(e))
	}
}

func (w *ruleWriter) raw(data []byte) {
	w.list = attribute{typ: unix.NLA_F_NESTED | unix.NFTA_LIST_ELEM, data: data}.appendTo(w.list)
	if a, err := nl.Decode(data); err == nil {
		w.names = append(w.names, a.Text(unix.NFTA_EXPR_NAME))
	}
}

func marshal(e expr.Any) []byte {
	if ct, ok := e.(originalCt); ok {
		return ct.encode()
	}
	b, err := expr.Marshal(unix.NFPROTO_INET, e)
	if err != nil {
		panic(fmt.Sprintf("nft: marshal %T: %v", e, err)) // attributes of fixed size always fit
	}
	return b
}

func (w *ruleWriter) node(n rules.Node) {
	switch n := n.(type) {
	case rules.Match:
		w.match(n)
	case rules.VMap:
		w.vmap(n)
	case rules.Verdict:
		w.emit(&expr.Verdict{Kind: expr.VerdictKind(verdictCodes[n.Kind]), Chain: n.Chain})
	case rules.Counter:
		w.emit(&expr.Counter{Packets: n.Packets, Bytes: n.Bytes})
	case rules.Redirect:
		w.redirect(n)
	case rules.SNAT:
		w.snat(n)
	case rules.TProxy:
		w.tproxy(n)
	case rules.Assign:
		w.assign(n)
	case rules.NoTrack:
		w.emit(&expr.Notrack{})
	case rules.Opaque:
		w.opaque(n)
	}
}

const (
	firstRegister  = unix.NFT_REG_1
	secondRegister = unix.NFT_REG_2
)

// partRegister is the register of a concatenation's part that starts at a byte
// offset.
func partRegister(offset int) uint32 {
	if offset == 0 {
		return firstRegister
	}
	return unix.NFT_REG32_00 + uint32(offset/4)
}

// settle matches what the selectors imply.
func (w *ruleWriter) settle(key []rules.Selector) {
	for _, s := range key {
		if f := s.Family(); f != 0 && f != w.known.family {
			w.known.family = f
			w.emit(&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: firstRegister}, equal([]byte{byte(f)}))
		}
	}
	for _, s := range key {
		if p := s.Proto(); p != 0 && p != w.known.proto {
			w.known.proto = p
			w.emit(&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: firstRegister}, equal([]byte{byte(p)}))
		}
	}
}

func equal(data []byte) *expr.Cmp {
	return &expr.Cmp{Op: expr.CmpOpEq, Register: firstRegister, Data: data}
}

func (w *ruleWriter) match(m rules.Match) {
	w.settle(m.Key)
	switch {
	case m.Set != "":
		w.load(m.Key, m.Mask, w.sets[m.Set] != nil && w.sets[m.Set].Interval)
		w.lookup(&expr.Lookup{SetName: m.Set, Invert: m.Negated})
	case m.Anonymous():
		s := anonymousSet(m.Types(), m.Elements)
		w.load(m.Key, m.Mask, s.Interval)
		id := w.addAnonymous(w.where, s)
		w.lookup(&expr.Lookup{SetName: s.Name, SetID: id, Invert: m.Negated})
	default:
		w.compare(m)
	}
	w.known.learn(m)
}

// learn notes what the match settles for the rest of the rule.
func (k *known) learn(m rules.Match) {
	if len(m.Key) != 1 || m.Negated || m.Mask != "" || m.Set != "" || len(m.Elements) != 1 || !m.Elements[0].Key[0].Single() {
		return
	}
	value := m.Elements[0].Key[0].Lo
	switch m.Key[0] {
	case rules.L4Proto.Selector():
		k.proto = rules.Proto(value[0])
	case rules.NFProto.Selector():
		k.family = rules.Family(value[0])
	}
}

func anonymousSet(key []rules.DataType, elements []rules.Element) *rules.Set {
	s := &rules.Set{Key: key, Elements: elements}
	for _, e := range elements {
		for _, r := range e.Key {
			s.Interval = s.Interval || !r.Single()
		}
		s.Verdicts = s.Verdicts || e.Verdict.Kind != 0
	}
	if !s.Interval {
		s.Size = uint32(len(elements)) // of a known size, the kernel's set is a faster one
	}
	return s
}

// load loads a key for a lookup. Interval sets compare byte by byte, so a value
// in the machine's byte order is turned first.
func (w *ruleWriter) load(key []rules.Selector, mask rules.Bits, interval bool) {
	offset := 0
	for _, s := range key {
		register := partRegister(offset)
		w.emit(load(s, register, 0))
		w.mask(s.Type(), mask)
		if interval {
			w.turn(s.Type(), register)
		}
		offset += nl.Align(s.Type().Len())
	}
}

func (w *ruleWriter) turn(d rules.DataType, register uint32) {
	if d.HostOrder() {
		size := uint32(d.Len())
		w.emit(&expr.Byteorder{SourceRegister: register, DestRegister: register, Op: expr.ByteorderHton, Len: size, Size: size})
	}
}

// mask keeps bits of the first register; concatenations have no masks.
func (w *ruleWriter) mask(d rules.DataType, mask rules.Bits) {
	if mask == "" {
		return
	}
	w.emit(&expr.Bitwise{SourceRegister: firstRegister, DestRegister: firstRegister, Len: uint32(d.Len()),
		Mask: wire(d, mask), Xor: make([]byte, d.Len())})
}

func (w *ruleWriter) lookup(l *expr.Lookup) {
	l.SourceRegister = firstRegister
	w.emit(l)
}

// compare tests one value, prefix, wildcard or range.
func (w *ruleWriter) compare(m rules.Match) {
	s, r := m.Key[0], m.Elements[0].Key[0]
	d := s.Type()
	op := expr.CmpOpEq
	if m.Negated {
		op = expr.CmpOpNeq
	}
	bits, isPrefix := r.PrefixBits()
	wholeBytes := isPrefix && bits > 0 && bits%8 == 0
	isAddress := d == rules.IPv4Addr || d == rules.IPv6Addr
	switch {
	case r.Single():
		w.emit(load(s, firstRegister, 0))
		w.mask(d, m.Mask)
		w.emit(&expr.Cmp{Op: op, Register: firstRegister, Data: wire(d, r.Lo)})
	case d == rules.IfNameType && wholeBytes:
		w.emit(load(s, firstRegister, 0), &expr.Cmp{Op: op, Register: firstRegister, Data: []byte(r.Lo[:bits/8])})
	case isAddress && wholeBytes:
		w.emit(load(s, firstRegister, uint32(bits/8)), &expr.Cmp{Op: op, Register: firstRegister, Data: []byte(r.Lo[:bits/8])})
	case isAddress && isPrefix:
		w.emit(load(s, firstRegister, 0))
		w.mask(d, prefixMask(bits, d.Len()))
		w.emit(&expr.Cmp{Op: op, Register: firstRegister, Data: []byte(r.Lo)})
	default:
		w.emit(load(s, firstRegister, 0))
		w.turn(d, firstRegister)
		w.span(op, r)
	}
}

func prefixMask(bits, length int) rules.Bits {
	mask := make([]byte, length)
	for i := range bits {
		mask[i/8] |= 0x80 >> (i % 8)
	}
	return rules.Bits(mask)
}

func (w *ruleWriter) span(op expr.CmpOp, r rules.Range) {
	if op == expr.CmpOpNeq {
		w.emit(&expr.Range{Op: op, Register: firstRegister, FromData: []byte(r.Lo), ToData: []byte(r.Hi)})
		return
	}
	w.emit(&expr.Cmp{Op: expr.CmpOpGte, Register: firstRegister, Data: []byte(r.Lo)},
		&expr.Cmp{Op: expr.CmpOpLte, Register: firstRegister, Data: []byte(r.Hi)})
}

func (w *ruleWriter) vmap(v rules.VMap) {
	w.settle(v.Key)
	l := &expr.Lookup{SetName: v.Map, IsDestRegSet: true} // DestRegister 0 is the verdict
	interval := false
	if v.Map == "" {
		s := anonymousSet(v.Types(), v.Elements)
		interval = s.Interval
		l.SetID = w.addAnonymous(w.where, s)
		l.SetName = s.Name
	} else if s := w.sets[v.Map]; s != nil {
		interval = s.Interval
	}
	w.load(v.Key, "", interval)
	w.lookup(l)
}

func (w *ruleWriter) redirect(r rules.Redirect) {
	e := &expr.Redir{}
	if r.Ports != nil {
		w.emit(&expr.Immediate{Register: firstRegister, Data: []byte(r.Ports.Lo)})
		e.RegisterProtoMin, e.Flags = firstRegister, unix.NF_NAT_RANGE_PROTO_SPECIFIED
		if !r.Ports.Single() {
			w.emit(&expr.Immediate{Register: secondRegister, Data: []byte(r.Ports.Hi)})
			e.RegisterProtoMax = secondRegister
		}
	}
	w.emit(e)
}

func (w *ruleWriter) snat(n rules.SNAT) {
	w.emit(&expr.Immediate{Register: firstRegister, Data: n.To.AsSlice()},
		&expr.NAT{Type: expr.NATTypeSourceNAT, Family: uint32(rules.AddressFamily(n.To)), RegAddrMin: firstRegister})
}

func (w *ruleWriter) tproxy(t rules.TProxy) {
	e := &expr.TProxy{Family: byte(t.Family), TableFamily: unix.NFPROTO_INET}
	register := uint32(firstRegister)
	if t.Addr != "" {
		w.emit(&expr.Immediate{Register: register, Data: []byte(t.Addr)})
		e.RegAddr, register = register, secondRegister
	}
	if t.Port != 0 {
		w.emit(&expr.Immediate{Register: register, Data: []byte(rules.RangeOf(t.Port).Lo)})
		e.RegPort = register
	}
	w.raw(marshalTProxy(e))
}

// marshalTProxy leaves out a port register that is not set, which the library's
// encoder would send as register 0.
func marshalTProxy(e *expr.TProxy) []byte {
	return encode(func(ae *netlink.AttributeEncoder) {
		ae.String(unix.NFTA_EXPR_NAME, "tproxy")
		nested(ae, unix.NFTA_EXPR_DATA, func(ae *netlink.AttributeEncoder) {
			ae.Uint32(nftaTProxyFamily, uint32(e.Family))
			if e.RegAddr != 0 {
				ae.Uint32(nftaTProxyRegAddr, e.RegAddr)
			}
			if e.RegPort != 0 {
				ae.Uint32(nftaTProxyRegPort, e.RegPort)
			}
		})
	})
}

func (w *ruleWriter) assign(a rules.Assign) {
	d := a.To.Type()
	if a.From == 0 {
		w.emit(&expr.Immediate{Register: firstRegister, Data: wire(d, a.Xor)})
	} else {
		w.settle([]rules.Selector{a.From})
		w.emit(load(a.From, firstRegister, 0))
		if !allOnes(a.Mask) || !allZeros(a.Xor) {
			w.emit(&expr.Bitwise{SourceRegister: firstRegister, DestRegister: firstRegister, Len: uint32(d.Len()),
				Mask: wire(d, a.Mask), Xor: wire(d, a.Xor)})
		}
	}
	if key, ok := metas[a.To]; ok {
		w.emit(&expr.Meta{Key: key, SourceRegister: true, Register: firstRegister})
	} else {
		w.emit(ofDirection(a.To, &expr.Ct{Key: cts[a.To], SourceRegister: true, Register: firstRegister}))
	}
}

func allOnes(b rules.Bits) bool {
	for i := range len(b) {
		if b[i] != 0xff {
			return false
		}
	}
	return true
}

func allZeros[B rules.Bits | []byte](b B) bool {
	for i := range len(b) {
		if b[i] != 0 {
			return false
		}
	}
	return true
}

// opaque puts back expressions as they were dumped.
func (w *ruleWriter) opaque(o rules.Opaque) {
	items, err := list([]byte(o.Raw))
	if err != nil {
		return
	}
	for _, it := range items {
		w.raw(it)
	}
}
