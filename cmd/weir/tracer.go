package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/weir-mesh/weir/nft"
	"github.com/weir-mesh/weir/rules"
)

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
func (v *tracer) refresh() error {
	v.read = time.Now()
	ruleset, err := v.conn.RulesetWith(v.ctx, noElements)
	if err != nil {
		return err
	}
	links, err := v.conn.LinkNames(v.ctx)
	if err != nil {
		return err
	}
	v.ruleset, v.links = ruleset, links
	return nil
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
