package nft

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/google/nftables/userdata"
	"github.com/mdlayher/netlink"
	"github.com/weir-mesh/weir/internal/escape"
	"github.com/weir-mesh/weir/internal/nl"
	"github.com/weir-mesh/weir/internal/reserved"
	"github.com/weir-mesh/weir/rules"
	"golang.org/x/sys/unix"
)

// tables is what the kernel holds of one owner's tables, and of other tables
// what a reader of ours should know.
type tables struct {
	own       *rules.Table
	leftover  bool
	tag       *Tag
	tagged    bool
	lock      *lockState // nil: there is none
	strangers []*NotOursError
	foreign   []ForeignChain
	beside    []*Tag // of other tables that weir wrote
}

// ForeignChain is a base chain of somebody else's.
type ForeignChain struct {
	Family, Table, Chain string
	Base                 rules.Base
}

func (f ForeignChain) String() string {
	return fmt.Sprintf("chain %s of table %s %s (%s %d)", escape.Text(f.Chain), f.Family, escape.Text(f.Table), f.Base.Hook, f.Base.Priority)
}

// lockState is what is known of the table by the lock's name.
type lockState struct {
	owned bool   // else it is no lock: it would stay when its maker ends
	port  uint32 // of the socket that owns it
}

// request names a table of family inet in a dump request.
func request(table string, more func(*netlink.AttributeEncoder)) []byte {
	return familyTable{unix.NFPROTO_INET, table}.request(more)
}

func (t familyTable) request(more func(*netlink.AttributeEncoder)) []byte {
	return append(nfgen(t.family, 0), encode(func(ae *netlink.AttributeEncoder) {
		ae.String(unix.NFTA_TABLE_NAME, t.name)
		if more != nil {
			more(ae)
		}
	})...)
}

// readTables dumps the tables of one name and its helpers. The caller compares
// the generation before and after.
func (c *Conn) readTables(ctx context.Context, name string, with elementsFilter) (tables, error) {
	var t tables
	chains, err := c.chains(ctx)
	if err != nil {
		return t, err
	}
	flags, owners, err := c.tableFlagsAndOwners(ctx, unix.NFPROTO_INET)
	if err != nil {
		return t, err
	}
	if f, exists := flags[inet(reserved.Lock)]; exists {
		t.lock = &lockState{owned: f&tableOwner != 0, port: owners[inet(reserved.Lock)]}
	}
	for _, own := range []string{name, reserved.Next(name)} {
		f, exists := flags[inet(own)]
		if !exists {
			continue
		}
		table, tag, err := c.table(ctx, inet(own), f, chains[inet(own)], nil, with)
		if err != nil {
			return t, fmt.Errorf("table inet %s: %w", escape.Text(own), err)
		}
		ours := tag != nil && signed(tag)
		switch {
		case f&tableOwner != 0:
			holder := c.holder(ctx, owners[inet(own)])
			t.strangers = append(t.strangers, &NotOursError{Table: own, Holder: &holder})
		case !ours:
			t.strangers = append(t.strangers, &NotOursError{Table: own, Lacks: "tag"})
		}
		if own == name {
			t.own, t.tagged = table, tag != nil
			if tag != nil {
				t.tag = parseTag(tag)
			}
		} else {
			t.leftover = ours
		}
	}
	t.foreign = foreignChains(chains, name)
	t.beside, err = c.tagsBeside(ctx, flags, name)
	return t, err
}

// tagsBeside are the tags of tables by other names that weir wrote too.
func (c *Conn) tagsBeside(ctx context.Context, flags map[familyTable]uint32, name string) ([]*Tag, error) {
	var out []*Tag
	for of := range flags {
		if of == inet(name) || of == inet(reserved.Next(name)) || of == inet(reserved.Lock) {
			continue
		}
		s := &rules.Set{Name: reserved.Tag, Key: []rules.DataType{rules.MarkType}}
		if err := c.readTag(ctx, of, s); err != nil {
			return nil, fmt.Errorf("table inet %s: %w", of.name, err)
		}
		if tag := parseTag(s); tag != nil && signed(s) {
			out = append(out, tag)
		}
	}
	return out, nil
}

type familyTable struct {
	family uint8
	name   string
}

func inet(table string) familyTable { return familyTable{unix.NFPROTO_INET, table} }

// chains dumps every chain of the namespace, by table. While another program
// prepares to add one, the kernel may list the last ones again (seen on 6.18).
func (c *Conn) chains(ctx context.Context) (map[familyTable][]*rules.Chain, error) {
	msgs, err := dump(ctx, c.nf, uint16(nfType(unix.NFT_MSG_GETCHAIN)), nfgen(unix.AF_UNSPEC, 0))
	if err != nil {
		return nil, fmt.Errorf("nftables: list chains: %w", err)
	}
	out := map[familyTable][]*rules.Chain{}
	for _, m := range msgs {
		a, err := payload(m)
		if err != nil {
			return nil, err
		}
		key := familyTable{m.Data[0], a.Text(unix.NFTA_CHAIN_TABLE)}
		chain := &rules.Chain{Name: a.Text(unix.NFTA_CHAIN_NAME), Others: chainOthers(a.Number(nftaChainFlags))}
		if hook := a.Take(unix.NFTA_CHAIN_HOOK); hook != nil {
			if chain.Base, err = liftBase(m.Data[0], a, hook); err != nil {
				return nil, err
			}
		}
		out[key] = append(out[key], chain)
	}
	for key, list := range out {
		out[key] = once(list, func(c *rules.Chain) string { return c.Name })
	}
	return out, nil
}

// chainOthers is what a chain's flags say and the model does not know, as chains
// that nft writes within the rule that jumps there.
func chainOthers(flags uint64) string {
	if flags&^chainBase == 0 {
		return ""
	}
	return fmt.Sprintf("flags 0x%x", flags&^chainBase)
}

// once keeps the first of each key.
func once[T any](list []T, key func(T) string) []T {
	if len(list) < 2 {
		return list
	}
	seen := make(map[string]bool, len(list))
	return slices.DeleteFunc(list, func(v T) bool {
		k := key(v)
		again := seen[k]
		seen[k] = true
		return again
	})
}

func liftBase(family uint8, a nl.Attributes, hook []byte) (*rules.Base, error) {
	h, err := nl.Decode(hook)
	if err != nil {
		return nil, err
	}
	b := &rules.Base{
		Type:     rules.ChainType(a.Text(unix.NFTA_CHAIN_TYPE)),
		Hook:     liftHook(family, h.Number(unix.NFTA_HOOK_HOOKNUM)),
		Priority: int32(h.Number(unix.NFTA_HOOK_PRIORITY)),
		Drop:     a.Number(unix.NFTA_CHAIN_POLICY) == 0,
	}
	devices, err := list(h.Take(nftaHookDevs))
	for _, d := range devices {
		b.Devices = append(b.Devices, nl.Text(d))
	}
	return b, err
}

// liftHook is a hook by its number, of which arp and netdev have series of their own
// (linux/netfilter_arp.h, linux/netfilter_netdev.h).
func liftHook(family uint8, number uint64) rules.Hook {
	var own []rules.Hook
	switch family {
	case unix.NFPROTO_ARP:
		own = []rules.Hook{rules.Input, rules.Output, rules.Forward}
	case unix.NFPROTO_NETDEV:
		own = []rules.Hook{rules.Ingress, rules.Egress}
	}
	if number < uint64(len(own)) {
		return own[number]
	}
	return rules.Hook(number)
}

// tableFlags are the flags of every table of a family, AF_UNSPEC for all.
func (c *Conn) tableFlags(ctx context.Context, family uint8) (map[familyTable]uint32, error) {
	flags, _, err := c.tableFlagsAndOwners(ctx, family)
	return flags, err
}

// tableFlagsAndOwners are the flags of every table of a family, and the port ids of
// the sockets that tables with owners belong to.
func (c *Conn) tableFlagsAndOwners(ctx context.Context, family uint8) (flags, owners map[familyTable]uint32, err error) {
	flags, owners = map[familyTable]uint32{}, map[familyTable]uint32{}
	err = nl.Dump(ctx, c.nf, uint16(nfType(unix.NFT_MSG_GETTABLE)), nfgen(family, 0), func(m netlink.Message) error {
		a, err := payload(m)
		if err != nil {
			return err
		}
		key := familyTable{m.Data[0], a.Text(unix.NFTA_TABLE_NAME)}
		flags[key] = uint32(a.Number(unix.NFTA_TABLE_FLAGS))
		if a.Has(nftaTableOwner) {
			owners[key] = uint32(a.Number(nftaTableOwner))
		}
		return nil
	})
	if err != nil {
		return nil, nil, fmt.Errorf("nftables: list tables: %w", err)
	}
	return flags, owners, nil
}

// table dumps one table; its tag's set, where there is one, stands apart. Handles
// takes the places of the rules by their handles, unless it is nil.
func (c *Conn) table(ctx context.Context, of familyTable, flags uint32, chains []*rules.Chain, handles map[uint64]RulePlace, with elementsFilter) (t *rules.Table, tag *rules.Set, err error) {
	t = &rules.Table{Name: of.name, Chains: chains, Dormant: flags&unix.NFT_TABLE_F_DORMANT != 0}
	sets, byName, err := c.sets(ctx, of)
	if err != nil {
		return nil, nil, err
	}
	if i := slices.IndexFunc(sets, isTagSet); i >= 0 {
		tag = sets[i]
		sets = slices.Delete(sets, i, i+1)
		if err := c.readTag(ctx, of, tag); err != nil {
			return nil, nil, err
		}
	}
	t.Sets = sets
	if with(tag) {
		if tag != nil && signed(tag) {
			tag.Elements = nil // what weir did not write there is drift
			sets = append(slices.Clip(sets), tag)
		}
		for _, s := range sets {
			if err := c.readElements(ctx, of, s); err != nil {
				return nil, nil, err
			}
		}
	}
	if err := c.rules(ctx, of, t, byName, handles); err != nil {
		return nil, nil, err
	}
	others, err := c.others(ctx, of)
	t.Others = append(t.Others, others...)
	return t, tag, err
}

// rules dumps a table's rules into its chains. While another program prepares to
// add some, the kernel may list those that follow again (seen on 6.18).
func (c *Conn) rules(ctx context.Context, of familyTable, t *rules.Table, sets map[string]*rules.Set, handles map[uint64]RulePlace) error {
	msgs, err := dump(ctx, c.nf, uint16(nfType(unix.NFT_MSG_GETRULE)), of.request(nil))
	if err != nil {
		return fmt.Errorf("list rules: %w", err)
	}
	if handles == nil {
		handles = make(map[uint64]RulePlace, len(msgs))
	}
	chain := chainFinder(t)
	for _, m := range msgs {
		a, err := payload(m)
		if err != nil {
			return err
		}
		handle := a.Number(unix.NFTA_RULE_HANDLE)
		if _, again := handles[handle]; again {
			continue
		}
		exprs, err := list(a.Take(unix.NFTA_RULE_EXPRESSIONS))
		if err != nil {
			return err
		}
		c := chain(a.Text(unix.NFTA_RULE_CHAIN))
		if c == nil {
			return fmt.Errorf("list rules: %w", errGeneration) // came after the dump of chains
		}
		handles[handle] = RulePlace{c.Name, len(c.Rules)}
		c.Add(liftReason(a), liftRule(exprs, sets, families[of.family])...)
	}
	return nil
}

// chainFinder is t.Chain; of others' chains there may be ten thousands.
func chainFinder(t *rules.Table) func(name string) *rules.Chain {
	const few = 16 // cost less one by one than in a map
	if len(t.Chains) <= few {
		return t.Chain
	}
	byName := make(map[string]*rules.Chain, len(t.Chains))
	for _, c := range slices.Backward(t.Chains) { // the first of a name stays
		byName[c.Name] = c
	}
	return func(name string) *rules.Chain { return byName[name] }
}

func liftReason(a nl.Attributes) string {
	return userText(a.Take(unix.NFTA_RULE_USERDATA), userdata.TypeComment)
}

// elementsFilter decides whether the elements of a table's named sets are read, from
// the set of its tag, which is nil where it has none. Those of others can be
// hundreds of thousands: they are read where something asks for them.
type elementsFilter func(tag *rules.Set) bool

func allElements(*rules.Set) bool { return true }

func noElements(*rules.Set) bool { return false }

// sets dumps the declarations of a table's sets: of the named ones, and of all by
// the name that lookups use. An anonymous set's own name is empty, and its
// elements are read: they are a part of the rule that looks them up.
func (c *Conn) sets(ctx context.Context, of familyTable) (named []*rules.Set, byName map[string]*rules.Set, err error) {
	msgs, err := dump(ctx, c.nf, uint16(nfType(unix.NFT_MSG_GETSET)), of.request(nil))
	if err != nil {
		return nil, nil, fmt.Errorf("list sets: %w", err)
	}
	byName = map[string]*rules.Set{}
	for _, m := range msgs {
		a, err := payload(m)
		if err != nil {
			return nil, nil, err
		}
		isAnonymous := slices.Clone(a).Number(unix.NFTA_SET_FLAGS)&unix.NFT_SET_ANONYMOUS != 0
		s := liftSet(a)
		byName[s.Name] = s
		if !isAnonymous {
			named = append(named, s)
			continue
		}
		if err := c.readElements(ctx, of, s); err != nil {
			return nil, nil, err
		}
		s.Name = ""
	}
	return named, byName, nil
}

// liftSet is the declaration of a set. What the model does not know of it is
// said in Others.
func liftSet(a nl.Attributes) *rules.Set {
	flags := uint32(a.Number(unix.NFTA_SET_FLAGS))
	s := &rules.Set{
		Name:     a.Text(unix.NFTA_SET_NAME),
		Interval: flags&unix.NFT_SET_INTERVAL != 0,
		Dynamic:  flags&unix.NFT_SET_EVAL != 0,
		Expires:  flags&unix.NFT_SET_TIMEOUT != 0,
		Timeout:  milliseconds(a.Number(unix.NFTA_SET_TIMEOUT)),
		Sweep:    milliseconds(a.Number(unix.NFTA_SET_GC_INTERVAL)),
		Verdicts: flags&unix.NFT_SET_MAP != 0,
	}
	magic, length := uint32(a.Number(unix.NFTA_SET_KEY_TYPE)), uint32(a.Number(unix.NFTA_SET_KEY_LEN))
	s.Key = keyTypes(magic)
	if _, want := keyLayout(s.Key); len(s.Key) == 0 || want != length {
		s.Others = fmt.Sprintf("key of type %d and %d bytes", magic, length)
		s.Key = nil
	}
	if s.Verdicts && a.Number(unix.NFTA_SET_DATA_TYPE) != verdictDataType {
		s.Others += " data that is no verdict"
	}
	const known = unix.NFT_SET_ANONYMOUS | unix.NFT_SET_CONSTANT | unix.NFT_SET_INTERVAL | unix.NFT_SET_MAP |
		unix.NFT_SET_TIMEOUT | unix.NFT_SET_EVAL | setConcat | setExpr
	if other := flags &^ known; other != 0 {
		s.Others += fmt.Sprintf(" flags 0x%x", other)
	}
	if flags&(unix.NFT_SET_ANONYMOUS|unix.NFT_SET_CONSTANT) == unix.NFT_SET_CONSTANT {
		s.Others += " flags constant"
	}
	if desc, err := nl.Decode(a.Take(unix.NFTA_SET_DESC)); err == nil && flags&unix.NFT_SET_ANONYMOUS == 0 {
		s.Size = uint32(desc.Number(unix.NFTA_SET_DESC_SIZE))
	}
	s.Counters, s.Others = liftSetExpressions(a, s.Others)
	s.Live = userText(a.Take(unix.NFTA_SET_USERDATA), userdata.NFTNL_UDATA_SET_COMMENT) == rules.LiveComment
	return s
}

// milliseconds are a time of the kernel's, which has none longer than a Duration
// can be.
func milliseconds(n uint64) time.Duration {
	return time.Duration(min(n, math.MaxInt64/uint64(time.Millisecond))) * time.Millisecond
}

func liftSetExpressions(a nl.Attributes, others string) (counters bool, othersToo string) {
	if a.Has(nftaSetExpressions) {
		return false, others + " several expressions an element"
	}
	raw := a.Take(nftaSetExpr)
	if raw == nil {
		return false, others
	}
	e, err := nl.Decode(raw)
	if name := e.Text(unix.NFTA_EXPR_NAME); err != nil || name != "counter" {
		return false, others + " " + name + " an element"
	}
	return true, others
}

// keyTypes are the parts of a key by nft's number, none where one is not known.
func keyTypes(magic uint32) []rules.DataType {
	var types []rules.DataType
	for ; magic != 0; magic >>= magicTypeBits {
		d, ok := typeByMagic(magic & (1<<magicTypeBits - 1))
		if !ok {
			return nil
		}
		types = append(types, d)
	}
	slices.Reverse(types)
	return types
}

// setTypes are the data types that a set may have as a key.
func setTypes() (all []rules.DataType) {
	for d := rules.DataType(1); d.Len() > 0; d++ {
		if d.String() != "" {
			all = append(all, d)
		}
	}
	return all
}

func typeByMagic(magic uint32) (rules.DataType, bool) {
	for _, d := range setTypes() {
		if m, _ := d.Magic(); m == magic {
			return d, true
		}
	}
	return 0, false
}

func (c *Conn) readElements(ctx context.Context, of familyTable, s *rules.Set) error {
	msgs, err := dump(ctx, c.nf, uint16(nfType(unix.NFT_MSG_GETSETELEM)), of.request(func(ae *netlink.AttributeEncoder) {
		ae.String(unix.NFTA_SET_ELEM_LIST_SET, s.Name)
	}))
	if err != nil {
		return fmt.Errorf("set %s: list elements: %w", s.Name, err)
	}
	if err := liftSetElements(s, msgs); err != nil {
		return fmt.Errorf("set %s: %w", s.Name, err)
	}
	return nil
}

// liftSetElements gives a set the elements that a dump lists. A hash table that
// the kernel is resizing is listed from its start again (seen on 6.18); where the
// list goes on in a further message, that begins at the place of the other order,
// and passes over as many elements as it repeats.
func liftSetElements(s *rules.Set, msgs []netlink.Message) error {
	parts := make([][]element, 0, len(msgs))
	listed := 0
	for _, m := range msgs {
		a, err := payload(m)
		if err != nil {
			return err
		}
		part, err := liftElements(a.Take(unix.NFTA_SET_ELEM_LIST_ELEMENTS))
		if err != nil {
			return err
		}
		if len(part) > 0 {
			parts = append(parts, part)
		}
		listed += len(part)
	}
	all := pointers(parts...)
	if !s.Interval {
		all = once(all, func(e *element) string { return string(e.key) })
		// Packets add to a dynamic set at any time: it is never listed at one moment.
		if len(all) < listed && len(parts) > 1 && !s.Dynamic {
			return errGeneration
		}
	}
	joinListed(s, all)
	return nil
}

// pointers are those to elements, which are too large to be moved about.
func pointers(parts ...[]element) []*element {
	count := 0
	for _, part := range parts {
		count += len(part)
	}
	all := make([]*element, 0, count)
	for _, part := range parts {
		for i := range part {
			all = append(all, &part[i])
		}
	}
	return all
}

// element is an element as the kernel lists it.
type element struct {
	key, keyEnd []byte
	end         bool // the value after an interval's last
	counts      bool
	other       string // what the model does not know of it
	rules.Element
}

func liftElements(b []byte) (out []element, err error) {
	n := 0
	if err := nl.Walk(b, func(uint16, []byte) { n++ }); err != nil {
		return nil, err
	}
	out = make([]element, 0, n)
	var failed error
	err = nl.Walk(b, func(_ uint16, data []byte) {
		e, err := liftElement(data)
		failed = cmp.Or(failed, err)
		out = append(out, e)
	})
	return out, cmp.Or(err, failed)
}

func liftElement(b []byte) (e element, err error) {
	err = nl.Walk(b, func(typ uint16, data []byte) {
		switch typ {
		case unix.NFTA_SET_ELEM_KEY:
			e.key = dataValue(data)
		case nftaSetElemKeyEnd:
			e.keyEnd = dataValue(data)
		case unix.NFTA_SET_ELEM_FLAGS:
			flags := nl.BigEndian(data)
			e.end = flags&unix.NFT_SET_ELEM_INTERVAL_END != 0
			switch {
			case flags&^(unix.NFT_SET_ELEM_INTERVAL_END|elemCatchall) != 0:
				e.other = fmt.Sprintf("flags 0x%x", flags)
			case flags&elemCatchall != 0:
				e.other = "a catch-all element"
			}
		case unix.NFTA_SET_ELEM_DATA:
			var ok bool
			if e.Verdict, ok = liftVerdict(data); !ok {
				e.other = "data that is no verdict"
			}
		case unix.NFTA_SET_ELEM_TIMEOUT:
			e.Timeout = milliseconds(nl.BigEndian(data))
		case unix.NFTA_SET_ELEM_EXPIRATION:
			e.Expires = milliseconds(nl.BigEndian(data))
		case unix.NFTA_SET_ELEM_USERDATA:
			e.Comment = userText(data, userdata.NFTNL_UDATA_SET_ELEM_COMMENT)
		case unix.NFTA_SET_ELEM_EXPR:
			if e.Counter, e.counts = liftRule([][]byte{data}, nil, 0)[0].(rules.Counter); !e.counts {
				e.other = "an expression that is no counter"
			}
		case nftaSetElemPad:
		default:
			e.other = "an object or several expressions"
		}
	})
	return e, err
}

// joinElements gives a set its elements. For intervals the kernel lists starts
// and ends, in no fixed order. What the model does not know goes to Others.
func joinElements(s *rules.Set, raw []element) { joinListed(s, pointers(raw)) }

func joinListed(s *rules.Set, raw []*element) {
	if s.Interval && len(s.Key) == 1 {
		raw = joinIntervals(raw)
	}
	var others []string
	s.Elements = slices.Grow(s.Elements, len(raw))
	ranges := make([]rules.Range, len(raw)*len(s.Key)) // of all keys, in one piece
	for _, e := range raw {
		hi := e.keyEnd
		if hi == nil {
			hi = e.key
		}
		e.Key, ranges = ranges[:len(s.Key):len(s.Key)], ranges[len(s.Key):]
		fits := splitKey(s, e.Key, e.key, hi)
		if fits {
			s.Elements = append(s.Elements, e.Element)
		} else if e.other == "" {
			e.other = "a value that does not fit the key"
		}
		if fits && unnamed(s.Key, e.Key) {
			e.other = cmp.Or(e.other, "a range of interface names")
		}
		if e.counts && !s.Counters && e.other == "" {
			e.other = "counters of their own"
		}
		if e.other != "" && !slices.Contains(others, e.other) && !strings.Contains(s.Others, e.other) {
			others = append(others, e.other)
		}
	}
	if len(others) > 0 {
		slices.Sort(others)
		s.Others += " elements with " + strings.Join(others, ", ")
	}
}

// unnamed reports whether a part of the key is a range of interface names that no
// wildcards make up, as nft 1.0.6 leaves it of a name beside a wildcard.
func unnamed(types []rules.DataType, key []rules.Range) bool {
	for i, d := range types {
		if d != rules.IfNameType || key[i].Single() {
			continue
		}
		if _, ok := key[i].Names(); !ok {
			return true
		}
	}
	return false
}

// joinIntervals gives each start the last value before what follows it.
func joinIntervals(raw []*element) []*element {
	slices.SortFunc(raw, func(a, b *element) int {
		if c := bytes.Compare(a.key, b.key); c != 0 {
			return c
		}
		return b2i(b.end) - b2i(a.end) // an end comes before the start at the same value
	})
	starts := make([]*element, 0, len(raw)/2+1)
	for i, e := range raw {
		switch {
		case e.end && e.other == "":
			continue
		case i+1 < len(raw):
			e.keyEnd = slices.Clone(raw[i+1].key)
			decrement(e.keyEnd)
		default:
			e.keyEnd = []byte(prefixMask(len(e.key)*8, len(e.key))) // open: no value comes after
		}
		starts = append(starts, e)
	}
	return starts
}

// decrement takes one off a value, as [rules.Bits.Before] does.
func decrement(value []byte) {
	for i := range slices.Backward(value) {
		value[i]--
		if value[i] != 0xff {
			return
		}
	}
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// splitKey takes a key apart into the ranges of its parts, and reports whether it
// has those.
func splitKey(s *rules.Set, into []rules.Range, lo, hi []byte) bool {
	for i, d := range s.Key {
		step := d.Len()
		if len(s.Key) > 1 {
			step = nl.Align(step)
		}
		if len(lo) < step || len(hi) < step {
			return false
		}
		into[i] = rules.Range{Lo: outOfSet(s, d, lo[:d.Len()]), Hi: outOfSet(s, d, hi[:d.Len()])}
		lo, hi = lo[step:], hi[step:]
	}
	return len(into) > 0 && len(lo) == 0 && len(hi) == 0
}

// outOfSet is the inverse of inSet.
func outOfSet(s *rules.Set, d rules.DataType, b []byte) rules.Bits {
	if s.Interval {
		return rules.Bits(b)
	}
	return unwire(d, b)
}

// others are the stateful objects and flowtables of a table, in words.
func (c *Conn) others(ctx context.Context, of familyTable) ([]string, error) {
	var out []string
	for _, k := range []struct {
		msg           int
		kind          string
		table_, named uint16
	}{
		{unix.NFT_MSG_GETOBJ, "object", unix.NFTA_OBJ_TABLE, unix.NFTA_OBJ_NAME},
		{unix.NFT_MSG_GETFLOWTABLE, "flowtable", 1, 2}, // NFTA_FLOWTABLE_TABLE, _NAME
	} {
		msgs, err := dump(ctx, c.nf, uint16(nfType(k.msg)), of.request(nil))
		if err != nil {
			return nil, fmt.Errorf("list %ss: %w", k.kind, err)
		}
		for _, m := range msgs {
			a, err := payload(m)
			if err != nil {
				return nil, err
			}
			if of == (familyTable{m.Data[0], a.Text(k.table_)}) {
				out = append(out, k.kind+" "+a.Text(k.named))
			}
		}
	}
	return once(out, func(name string) string { return name }), nil // listed again as chains are
}

// families are those whose packets are of one.
var families = map[uint8]rules.Family{unix.NFPROTO_IPV4: rules.IPv4, unix.NFPROTO_IPV6: rules.IPv6}

var familyNames = map[uint8]string{unix.NFPROTO_INET: "inet", unix.NFPROTO_IPV4: "ip", unix.NFPROTO_IPV6: "ip6"}

// foreignChains are the base chains of others in the families that our hooks
// see.
func foreignChains(chains map[familyTable][]*rules.Chain, own string) []ForeignChain {
	var out []ForeignChain
	for key, list := range chains {
		family := familyNames[key.family]
		if family == "" || family == "inet" && (key.name == own || key.name == reserved.Next(own) || key.name == reserved.Lock) {
			continue
		}
		for _, c := range list {
			if c.Base != nil {
				out = append(out, ForeignChain{Family: family, Table: key.name, Chain: c.Name, Base: *c.Base})
			}
		}
	}
	slices.SortFunc(out, compareForeign)
	return out
}

func compareForeign(a, b ForeignChain) int {
	return cmp.Or(cmp.Compare(a.Base.Hook, b.Base.Hook), cmp.Compare(a.Base.Priority, b.Base.Priority),
		cmp.Compare(a.Family, b.Family), cmp.Compare(a.Table, b.Table), cmp.Compare(a.Chain, b.Chain))
}
