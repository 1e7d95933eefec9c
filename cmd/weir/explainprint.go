package main

import (
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/urfave/cli/v2"
	"github.com/weir-mesh/weir/internal/escape"
	"github.com/weir-mesh/weir/rules"
	"github.com/weir-mesh/weir/sim"
)

// print writes a journey in the form that the flags ask for.
func (x *explainer) print(cc *cli.Context, j sim.Journey) error {
	w := cc.App.Writer
	switch {
	case cc.Bool("json"):
		return writeJSONLine(w, x.view(j))
	case cc.Bool("markdown"):
		return x.markdown(w, j)
	}
	return x.text(w, j)
}

// explanation is a journey as programs read it.
type explanation struct {
	Packet string     `json:"packet"`
	From   string     `json:"from,omitempty"`
	In     string     `json:"in,omitempty"`
	UID    *uint32    `json:"uid,omitempty"`
	GID    *uint32    `json:"gid,omitempty"`
	Mark   string     `json:"mark,omitempty"`
	Path   []stepView `json:"path"`
	Fate   fateView   `json:"fate"`
}

type stepView struct {
	Hook     string `json:"hook"`
	Table    string `json:"table,omitempty"`
	Chain    string `json:"chain,omitempty"`
	Type     string `json:"type,omitempty"`
	Priority int32  `json:"priority"`
	Rule     int    `json:"rule,omitempty"` // from 1
	Reason   string `json:"reason,omitempty"`
	Does     string `json:"does"`
}

type fateView struct {
	Kind     string `json:"kind"`
	Says     string `json:"says"`
	To       string `json:"to"`
	Here     bool   `json:"here"`
	Out      string `json:"out,omitempty"`
	Port     uint16 `json:"port,omitempty"`
	Listener string `json:"listener,omitempty"`
	Original string `json:"original,omitempty"`
	Mark     string `json:"mark,omitempty"`
	CTMark   string `json:"ctMark,omitempty"`
	Zone     uint16 `json:"zone,omitempty"`
}

func (x *explainer) view(j sim.Journey) explanation {
	p, f := j.Packet, j.Fate
	e := explanation{Packet: protoName(p.Proto) + " " + endpoint(p.Proto, p.Dst), In: p.In, Mark: hex(p.Mark), Path: []stepView{}}
	if p.Src.Addr().IsValid() {
		e.From = endpoint(p.Proto, p.Src)
	}
	if p.Socket != nil {
		uid, gid := uint32(p.Socket.UID), uint32(p.Socket.GID)
		e.UID, e.GID = &uid, &gid
	}
	for _, s := range j.Steps {
		e.Path = append(e.Path, stepView{Hook: s.Hook.String(), Table: s.Table, Chain: s.Chain, Type: string(s.Type),
			Priority: s.Priority, Rule: s.Rule, Reason: s.Reason, Does: s.Does})
	}
	e.Fate = fateView{Kind: f.Kind.String(), Says: x.says(p, f), To: endpoint(p.Proto, f.Dst), Here: f.Here, Out: f.Out,
		Port: uint16(f.Port), Listener: x.listeners[f.Port], Mark: hex(f.Mark), CTMark: hex(f.CTMark), Zone: uint16(f.Zone)}
	if f.Kind == sim.Redirected {
		e.Fate.Original = endpoint(p.Proto, f.Asked)
	}
	return e
}

func hex(m rules.Mark) string {
	if m == 0 {
		return ""
	}
	return fmt.Sprintf("0x%x", uint32(m))
}

func protoName(p rules.Proto) string { return rules.InetProto.Format(rules.RangeOf(p).Lo) }

// endpoint is an address, with its port where the protocol has ports.
func endpoint(p rules.Proto, a netip.AddrPort) string {
	if p == rules.TCP || p == rules.UDP {
		return a.String()
	}
	return a.Addr().String()
}

// headline says which packet it is.
func headline(j sim.Journey) string {
	p := j.Packet
	text := protoName(p.Proto) + " "
	if p.Src.Addr().IsValid() {
		text += p.Src.Addr().String() + " -> "
	}
	text += endpoint(p.Proto, p.Dst)
	if p.In != "" {
		text += ", coming by " + p.In
	}
	if p.Socket != nil {
		text += fmt.Sprintf(", opened by uid %d", p.Socket.UID)
		if p.Socket.GID != 0 {
			text += fmt.Sprintf(" gid %d", p.Socket.GID)
		}
	}
	if p.Mark != 0 {
		text += ", mark " + hex(p.Mark)
	}
	if j.Fate.Out != "" {
		text += ", leaving by " + j.Fate.Out
	}
	return text
}

// says is the fate in a sentence.
func (x *explainer) says(p sim.Packet, f sim.Fate) string {
	var text string
	switch f.Kind {
	case sim.Redirected:
		text = fmt.Sprintf("captured: lands on %s; original destination %s", x.listener(f.Port), endpoint(p.Proto, f.Asked))
	case sim.Proxied:
		text = fmt.Sprintf("captured: lands on %s, addresses unchanged%s", x.listener(f.Port), x.unlessOpen(p))
	case sim.Untouched:
		if f.Here {
			text = "left alone: delivered to " + endpoint(p.Proto, f.Dst)
		} else {
			text = "left alone: leaves by " + f.Out
		}
		if f.Src.Addr() != p.Src.Addr() && p.Src.Addr().IsValid() {
			text += ", from " + f.Src.Addr().String()
		}
	case sim.Unknown:
		text = "unknown from here: " + f.Why
	default:
		text = f.Kind.String() + ": " + f.Why
	}
	if f.Here && f.Socket == nil && !x.host.Assumes && (p.Proto == rules.TCP || p.Proto == rules.UDP) {
		text += ", where nobody listens"
	}
	return text + marksText(f.Mark, f.CTMark, f.Zone)
}

// unlessOpen says what becomes of a packet for a transparent listener where that
// does not listen, of a host whose listeners are assumed.
func (x *explainer) unlessOpen(p sim.Packet) string {
	if !x.host.Assumes {
		return ""
	}
	f := x.evaluate(withoutListeners(x.host))(p).Fate
	return fmt.Sprintf(" (no listener: %s)", classFate{kind: f.Kind}.text(nil))
}

// marksText is what a packet is left with, "" for nothing.
func marksText(mark, ctMark rules.Mark, zone rules.Zone) (text string) {
	if mark != 0 {
		text += ", mark " + hex(mark)
	}
	if ctMark != 0 {
		text += ", connection mark " + hex(ctMark)
	}
	if zone != 0 {
		text += fmt.Sprintf(", zone %d", zone)
	}
	return text
}

func (x *explainer) listener(p rules.Port) string {
	if name := x.listeners[p]; name != "" {
		return fmt.Sprintf("the %s, port %d", name, p)
	}
	return fmt.Sprintf("port %d", p)
}

// columns are a step's: where, which rule, why, what.
func columns(s sim.Step) (where, rule, reason, does string) {
	where = s.Hook.String()
	if s.Chain == "" {
		return where, "", "", escape.Text(s.Does)
	}
	rule = "policy"
	if s.Rule > 0 {
		rule = fmt.Sprintf("rule %d", s.Rule)
	}
	if s.Reason != "" {
		reason = `"` + escape.Text(s.Reason) + `"`
	}
	return fmt.Sprintf("%s\t%s %d\t%s", where, escape.Text(string(s.Type)), s.Priority, escape.Text(s.Chain)), rule, reason, escape.Text(s.Does)
}

func (x *explainer) text(w io.Writer, j sim.Journey) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\n", escape.Text(headline(j)))
	table := tabwriter.NewWriter(&b, 0, 0, 3, ' ', 0)
	for _, s := range j.Steps {
		where, rule, reason, does := columns(s)
		if s.Chain == "" {
			where += "\t\t"
		}
		fmt.Fprintf(table, "  %s\t%s\t%s\t%s\n", where, rule, reason, does)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if len(j.Steps) == 0 {
		b.WriteString("  no rule decides about it\n")
	}
	fmt.Fprintf(&b, "\n  %s\n\n", colored(w, j.Fate.Kind, escape.Text(x.says(j.Packet, j.Fate))))
	_, err := io.WriteString(escape.Unwrap(w), b.String()) // which would escape the colors
	return err
}

// colored paints a fate where a person at a terminal reads it (NO_COLOR, see
// no-color.org).
func colored(w io.Writer, k sim.FateKind, text string) string {
	if os.Getenv("NO_COLOR") != "" || !isTerminal(w) {
		return text
	}
	const green, yellow, red = 32, 33, 31
	color := red
	switch k {
	case sim.Redirected, sim.Proxied:
		color = green
	case sim.Untouched:
		color = yellow
	}
	return fmt.Sprintf("\x1b[%dm%s\x1b[0m", color, text)
}

func (x *explainer) markdown(w io.Writer, j sim.Journey) error {
	var b strings.Builder
	fmt.Fprintf(&b, "**%s**\n\n", escape.Text(headline(j)))
	if len(j.Steps) > 0 {
		b.WriteString("| hook | chain | rule | reason | does |\n| --- | --- | --- | --- | --- |\n")
	}
	for _, s := range j.Steps {
		rule := ""
		if s.Rule > 0 {
			rule = fmt.Sprint(s.Rule)
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | `%s` |\n", s.Hook, cell(s.Chain), rule, cell(s.Reason), cell(s.Does))
	}
	if len(j.Steps) > 0 {
		b.WriteString("\n")
	}
	fmt.Fprintf(&b, "%s\n\n", escape.Text(x.says(j.Packet, j.Fate)))
	_, err := io.WriteString(w, b.String())
	return err
}

// cell is a text within a table of Markdown.
func cell(text string) string { return strings.ReplaceAll(escape.Text(text), "|", `\|`) }
