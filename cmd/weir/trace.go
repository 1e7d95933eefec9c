package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
	"github.com/weir-mesh/weir/nft"
	"github.com/weir-mesh/weir/packet"
	"github.com/weir-mesh/weir/rules"
)

func traceCommand() *cli.Command {
	return &cli.Command{
		Usage:     "print real packets as they cross the rules: each rule's verdict and reason",
		ArgsUsage: "[tcp|udp|icmp|icmpv6]",
		Description: "Example: weir trace --pid 4711 --to 203.0.113.10:80 --count 1 tcp\n\n" +
			"Packets that match are traced from before all other rules on; those of other\n" +
			"programs are marked as such. Of a connection nat chains see the first packet\n" +
			"alone. The trace's own table goes with it.",
		Flags: withCommon(
			&cli.StringFlag{Name: "to", Category: categoryTraced, Usage: "packets to `CIDR[:PORT]`, :PORT or [IPv6]:PORT"},
			&cli.StringFlag{Name: "from", Category: categoryTraced, Usage: "packets from `CIDR[:PORT]`"},
			&cli.StringFlag{Name: "uid", Category: categoryTraced, Usage: "packets of sockets that user `UID` opened here"},
			&cli.IntFlag{Name: "rate", Value: 100, Usage: "trace at most `N` packets a second"},
			&cli.IntFlag{Name: "count", DefaultText: "no end", Usage: "end after `N` packets"},
			&cli.DurationFlag{Name: "for", Value: 10 * time.Second, Usage: "end after `TIME`"}),
		Action: func(cc *cli.Context) error {
			o, err := traceOptions(cc)
			if err != nil {
				return err
			}
			return inNamespace(cc, func(ctx context.Context, j *job) error { return j.trace(ctx, o) })
		},
	}
}

const (
	categoryTraced = "which packets"
	maxTraceRate   = 100_000
)

// traceOptions reads the flags. The error says every problem.
func traceOptions(cc *cli.Context) (nft.TraceOptions, error) {
	o := nft.TraceOptions{Hooks: []rules.Hook{rules.Prerouting, rules.Output}, Rate: uint32(cc.Int("rate"))}
	var problems []error
	problem := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	if n := cc.Int("rate"); n < 1 || n > maxTraceRate {
		problem("--rate: %d is no number of packets a second (want 1-%d)", n, maxTraceRate)
	}
	if n := cc.Int("count"); cc.IsSet("count") && n < 1 {
		problem("--count: %d is no number of packets (want at least 1)", n)
	}
	if d := cc.Duration("for"); d <= 0 {
		problem("--for: %s has passed already", d)
	}
	proto := cc.Args().First()
	if cc.Args().Len() > 1 {
		problem("trace takes one protocol, not %d words (see weir help trace)", cc.Args().Len())
	}
	match, err := matchPackets(proto, cc.String("from"), cc.String("to"))
	if err != nil {
		problems = append(problems, err)
	}
	o.Match = match
	if cc.IsSet("uid") {
		uid, err := strconv.ParseUint(cc.String("uid"), 10, 32)
		if err != nil {
			problem("--uid: %q is no user id (want 0-4294967295)", cc.String("uid"))
		}
		o.Match = append(o.Match, rules.SkUID.Is(rules.UID(uid)))
		o.Hooks = []rules.Hook{rules.Output} // arriving packets have no user
	}
	if len(problems) > 0 {
		return o, usageError{errors.Join(problems...)}
	}
	return o, nil
}

// matchPackets are the matches of a protocol, a source and a destination, each "" for
// any.
func matchPackets(proto, from, to string) ([]rules.Node, error) {
	var out []rules.Node
	var problems []error
	ported := false
	end := func(flag, text string, addr rules.Key[netip.Prefix], port rules.Key[rules.Port]) netip.Prefix {
		if text == "" {
			return netip.Prefix{}
		}
		p, err := packet.Parse(orTCP(proto) + " " + text)
		if err != nil {
			problems = append(problems, fmt.Errorf("--%s: %w", flag, err))
			return netip.Prefix{}
		}
		if p.To.IsValid() {
			out = append(out, addr.Is(p.To))
		}
		if p.Ports != (rules.Range{}) {
			ported = true
			out = append(out, port.Within(p.Ports))
		}
		return p.To
	}
	if proto != "" {
		p, err := packet.Parse(proto + " 0.0.0.0")
		if err != nil {
			return nil, fmt.Errorf("%q is no protocol (want tcp, udp, icmp or icmpv6)", proto)
		}
		out = append(out, rules.L4Proto.Is(p.Proto))
	}
	source := end("from", from, rules.Saddr, rules.ThSport)
	destination := end("to", to, rules.Daddr, rules.ThDport)
	if source.IsValid() && destination.IsValid() && source.Addr().Is4() != destination.Addr().Is4() {
		problems = append(problems, fmt.Errorf("--from and --to are of two families: %s and %s", source, destination))
	}
	if ported && proto == "" {
		out = append([]rules.Node{rules.L4Proto.In(rules.TCP, rules.UDP)}, out...)
	}
	return out, errors.Join(problems...)
}

// orTCP is the protocol under which a destination is read where none is said.
func orTCP(proto string) string {
	if proto == "" {
		return "tcp"
	}
	return proto
}

func (j *job) trace(ctx context.Context, o nft.TraceOptions) (err error) {
	if err := j.connect(); err != nil {
		return err
	}
	v := &tracer{ctx: ctx, conn: j.conn, out: newTracePrinter(j.cc.App.Writer, j.cc.Bool("json")), most: j.cc.Int("count")}
	if err := v.refresh(); err != nil {
		return err
	}
	t, err := nft.StartTrace(ctx, j.target.fd, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.Close()) }()
	if err := v.follow(t, time.Now().Add(j.cc.Duration("for"))); err != nil {
		return err
	}
	return j.traceEnd(t, o, v)
}

// traceEnd says what the trace left out.
func (j *job) traceEnd(t *nft.Trace, o nft.TraceOptions, v *tracer) error {
	matched, traced, err := t.Counts(context.WithoutCancel(v.ctx))
	if err != nil {
		return err
	}
	lost, err := t.Lost()
	if err != nil {
		return err
	}
	if err := v.out.end(matched, traced, lost); err != nil {
		return err
	}
	w := j.cc.App.ErrWriter
	switch {
	case matched == 0:
		fmt.Fprintln(w, "note: no packet matched")
	case traced < matched:
		fmt.Fprintf(w, "note: %d packets matched, %d of them above --rate %d were not traced\n", matched, matched-traced, o.Rate)
	}
	if lost > 0 {
		fmt.Fprintf(w, "warning: %d notifications were lost, and with them steps of packets: want a smaller --rate\n", lost)
	}
	return nil
}

// tracer makes packets of notifications.
type tracer struct {
	ctx     context.Context
	conn    *nft.Conn
	out     tracePrinter
	most    int // packets, 0 for any number
	started int
	full    bool // a packet more than that matched
	printed int
	ruleset *nft.Ruleset
	read    time.Time // when
	links   map[int]string
	waiting []*tracedPacket // on their way, in order of their first notifications
}

const (
	traceTick     = 50 * time.Millisecond
	traceQuiet    = 150 * time.Millisecond // a packet of which nothing more was told for so long has arrived
	rereadPause   = time.Second            // between looks at rules that changed meanwhile
	maxTracedWait = 4096                   // packets on their way
)

// refresh reads the rules that notifications name by numbers.
func (v *tracer) refresh() (err error) {
	v.read = time.Now()
	if v.ruleset, err = v.conn.Ruleset(v.ctx); err != nil {
		return err
	}
	v.links, err = v.conn.LinkNames(v.ctx)
	return err
}

// follow prints packets until the time, the number of packets, or the end of the
// context, which is an ordinary way to end.
func (v *tracer) follow(t *nft.Trace, end time.Time) error {
	for v.ctx.Err() == nil && time.Now().Before(end) {
		events, err := t.Receive(time.Now().Add(traceTick))
		if err != nil {
			return err
		}
		now := time.Now()
		for _, e := range events {
			if err := v.take(e, now); err != nil {
				return err
			}
		}
		if err := v.arrived(now.Add(-traceQuiet)); err != nil {
			return err
		}
		if v.most > 0 && v.started >= v.most && len(v.waiting) == 0 {
			return nil
		}
	}
	return v.arrived(time.Now())
}

// take adds a notification to its packet. Those of another trace's chains are no
// step of the packet's.
func (v *tracer) take(e nft.TraceEvent, now time.Time) error {
	if e.Other {
		return nil
	}
	p := v.waitingFor(e.ID)
	begins := e.Own && e.Handle != 0
	if p == nil || begins || e.Own && p.met {
		if len(v.waiting) >= maxTracedWait {
			if err := v.print(1); err != nil {
				return err
			}
		}
		p = v.begin(e, begins, now)
	}
	p.last = now
	p.describe(e, v.links)
	switch {
	case e.Own:
		p.met = p.met || e.Kind == nft.TracePolicy
	case e.Kind == nft.TracePolicy || e.Handle != 0: // else it is the end of a chain
		p.Steps = append(p.Steps, v.step(e))
	}
	return nil
}

// begin is a packet of which something was told for the first time: that it
// matched, or, of one that did before, that it comes again. What another program
// has the kernel trace was not asked for.
func (v *tracer) begin(e nft.TraceEvent, matched bool, now time.Time) *tracedPacket {
	p := &tracedPacket{id: e.ID, Time: now, Again: !matched, Steps: []tracedStep{}}
	p.describe(e, v.links)
	v.full = v.full || matched && v.most > 0 && v.started == v.most
	p.unasked = v.full || !matched && !v.sent(p)
	if matched && !p.unasked {
		v.started++
	}
	v.waiting = append(v.waiting, p)
	return p
}

// sent reports whether a packet that was asked for, on its way or just arrived, has
// the source of this one: redirects and routes leave that as it is.
func (v *tracer) sent(p *tracedPacket) bool {
	return slices.ContainsFunc(v.waiting, func(o *tracedPacket) bool {
		return !o.unasked && o.Protocol == p.Protocol && o.Source == p.Source
	})
}

// waitingFor is the latest packet with that number: the kernel uses them again.
func (v *tracer) waitingFor(id uint32) *tracedPacket {
	for i := len(v.waiting) - 1; i >= 0; i-- {
		if v.waiting[i].id == id {
			return v.waiting[i]
		}
	}
	return nil
}

// arrived prints the packets of which nothing was told since.
func (v *tracer) arrived(since time.Time) error {
	n := 0
	for n < len(v.waiting) && v.waiting[n].last.Before(since) {
		n++
	}
	return v.print(n)
}

func (v *tracer) print(n int) error {
	for _, p := range v.waiting[:n] {
		if p.unasked || p.Again && len(p.Steps) == 0 {
			continue
		}
		v.printed++
		p.Number = v.printed
		if err := v.out.packet(p); err != nil {
			return err
		}
	}
	v.waiting = v.waiting[n:]
	return nil
}

// step is a notification in words.
func (v *tracer) step(e nft.TraceEvent) tracedStep {
	s := tracedStep{Family: e.Family, Table: e.Table, Chain: e.Chain}
	t := v.ruleset.Find(e.Family, e.Table)
	place, known := nft.RulePlace{}, false
	if t != nil && e.Kind == nft.TraceRule {
		place, known = t.Rule(e.Handle)
	}
	if (t == nil || e.Kind == nft.TraceRule && !known) && time.Since(v.read) > rereadPause {
		if err := v.refresh(); err == nil {
			return v.step(e)
		}
	}
	s.Foreign = t == nil || t.Tag == nil
	switch {
	case e.Kind == nft.TracePolicy:
		s.Verdict = "policy accept"
		if e.Drop {
			s.Verdict = "policy drop"
		}
	case known:
		r := t.Chain(place.Chain).Rules[place.Index]
		s.Rule, s.Reason, s.Verdict = place.Index+1, r.Reason, decided(r, e.Verdict)
		r.Reason = ""
		s.Text = r.String()
	default:
		s.Text, s.Verdict = fmt.Sprintf("a rule that is gone (handle %d)", e.Handle), statement(e.Verdict)
	}
	return s
}

// decided is what a rule did to the packet, in its statement's words where that
// ended the rule.
func decided(r rules.Rule, v rules.Verdict) string {
	if v.Kind == rules.AcceptKind && len(r.Nodes) > 0 {
		switch last := r.Nodes[len(r.Nodes)-1].(type) {
		case rules.Redirect, rules.TProxy, rules.SNAT:
			return statement(last)
		}
	}
	return statement(v)
}

func statement(n rules.Node) string { return rules.Rule{Nodes: []rules.Node{n}}.String() }

// tracedPacket is a packet's way through the chains, until it waits somewhere or
// leaves.
type tracedPacket struct {
	Number      int          `json:"packet"`
	Time        time.Time    `json:"time"`
	Again       bool         `json:"again"` // it matched before, and comes back: over lo, for one
	Protocol    string       `json:"protocol"`
	Source      string       `json:"source"`
	Destination string       `json:"destination"`
	Flags       string       `json:"flags,omitempty"`
	Length      int          `json:"length"`
	In          string       `json:"in,omitempty"`
	Out         string       `json:"out,omitempty"`
	Mark        uint32       `json:"mark,omitempty"`
	Steps       []tracedStep `json:"steps"`

	id      uint32
	met     bool // the end of the trace's own chain
	unasked bool // it is more than --count
	last    time.Time
}

type tracedStep struct {
	Family  string `json:"family"`
	Table   string `json:"table"`
	Chain   string `json:"chain"`
	Foreign bool   `json:"foreign"`
	Rule    int    `json:"rule,omitempty"`
	Reason  string `json:"reason,omitempty"`
	Text    string `json:"text,omitempty"`
	Verdict string `json:"verdict"`
}

// describe takes in what a notification tells of the packet itself; the first
// that does holds.
func (p *tracedPacket) describe(e nft.TraceEvent, links map[int]string) {
	if h := e.Packet; h.Known() && p.Source == "" {
		p.Protocol = rules.InetProto.Format(rules.Span(h.Proto).Lo)
		p.Source, p.Destination = h.Src.String(), h.Dst.String()
		if h.Src.Port() == 0 && h.Dst.Port() == 0 {
			p.Source, p.Destination = h.Src.Addr().String(), h.Dst.Addr().String()
		}
		p.Flags, p.Length = tcpFlags(h.TCPFlags), h.Length
	}
	if p.In == "" {
		p.In = linkName(e.IIf, links)
	}
	if p.Out == "" {
		p.Out = linkName(e.OIf, links)
	}
	if e.Mark != 0 {
		p.Mark = e.Mark
	}
}

func linkName(index uint32, links map[int]string) string {
	if index == 0 {
		return ""
	}
	if name, ok := links[int(index)]; ok {
		return name
	}
	return "interface " + strconv.FormatUint(uint64(index), 10)
}

func tcpFlags(flags uint8) string {
	var words []string
	for i, name := range []string{"FIN", "SYN", "RST", "PSH", "ACK", "URG"} {
		if flags&(1<<i) != 0 {
			words = append(words, name)
		}
	}
	return strings.Join(words, " ")
}

// tracePrinter writes packets as they arrive.
type tracePrinter interface {
	packet(*tracedPacket) error
	end(matched, traced uint64, lost uint32) error
}

func newTracePrinter(w io.Writer, asJSON bool) tracePrinter {
	if asJSON {
		e := json.NewEncoder(w)
		e.SetEscapeHTML(false)
		return jsonTrace{e}
	}
	return textTrace{w}
}

// jsonTrace writes an object a line, and one with the counts at the end.
type jsonTrace struct{ *json.Encoder }

func (t jsonTrace) packet(p *tracedPacket) error {
	return t.Encode(p)
}

func (t jsonTrace) end(matched, traced uint64, lost uint32) error {
	return t.Encode(map[string]uint64{"matched": matched, "traced": traced, "lost": uint64(lost)})
}

type textTrace struct{ io.Writer }

func (t textTrace) end(uint64, uint64, uint32) error { return nil }

func (t textTrace) packet(p *tracedPacket) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%d %s %s -> %s", p.Number, p.Protocol, p.Source, p.Destination)
	for _, more := range []struct{ label, value string }{{" ", p.Flags}, {" in by ", p.In}, {" out by ", p.Out}} {
		if more.value != "" {
			b.WriteString(more.label + more.value)
		}
	}
	if p.Mark != 0 {
		fmt.Fprintf(&b, " mark 0x%x", p.Mark)
	}
	if p.Again {
		b.WriteString(", once more")
	}
	b.WriteByte('\n')
	if len(p.Steps) == 0 {
		b.WriteString("  meets no chain (of a connection nat chains see the first packet alone)\n")
	}
	var at string
	for _, s := range p.Steps {
		if chain := s.Family + " " + s.Table + " " + s.Chain; chain != at {
			at = chain
			fmt.Fprintf(&b, "  %s chain %s of table %s %s\n", s.owner(), s.Chain, s.Family, s.Table)
		}
		b.WriteString("    " + s.String() + "\n")
	}
	_, err := io.WriteString(t.Writer, b.String())
	return err
}

func (s tracedStep) owner() string {
	if s.Foreign {
		return "another's"
	}
	return "weir's"
}

func (s tracedStep) String() string {
	switch {
	case s.Rule == 0 && s.Text == "":
		return s.Verdict
	case s.Rule == 0:
		return s.Text + ": " + s.Verdict
	case s.Reason == "" && strings.HasSuffix(s.Text, s.Verdict):
		return fmt.Sprintf("rule %d: %s", s.Rule, s.Text)
	case s.Reason == "":
		return fmt.Sprintf("rule %d: %s: %s", s.Rule, s.Text, s.Verdict)
	}
	return fmt.Sprintf("rule %d %q: %s", s.Rule, s.Reason, s.Verdict)
}
