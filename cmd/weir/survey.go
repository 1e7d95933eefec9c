package main

import (
	"cmp"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"text/tabwriter"

	"github.com/urfave/cli/v2"
	"github.com/weir-mesh/weir/config"
	"github.com/weir-mesh/weir/internal/escape"
	"github.com/weir-mesh/weir/modes"
	"github.com/weir-mesh/weir/rules"
	"github.com/weir-mesh/weir/sim"
	"github.com/weir-mesh/weir/sim/survey"
)

// classFate is what becomes of a class of packets, and why.
type classFate struct {
	kind sim.FateKind
	port rules.Port // of the listener that gets it
	from netip.Addr // that the rules have it come from; not valid: its own
	none string     // what becomes of it where its transparent listener does not listen
	why  string
}

// rank puts what escapes the proxy first, then what does not arrive.
func (o classFate) rank() int {
	return map[sim.FateKind]int{sim.Untouched: 0, sim.Unknown: 1, sim.Dropped: 2, sim.LostInRouting: 3, sim.Redirected: 4, sim.Proxied: 5}[o.kind]
}

func compareFates(a, b classFate) int {
	return cmp.Or(cmp.Compare(a.rank(), b.rank()), cmp.Compare(a.port, b.port), a.from.Compare(b.from), cmp.Compare(a.none, b.none), cmp.Compare(a.why, b.why))
}

// surveyRow is a class of packets, as programs read it.
type surveyRow struct {
	Who      string `json:"who"`
	Where    string `json:"where"`
	Fate     string `json:"fate"`
	Why      string `json:"why"`
	Example  string `json:"example"`
	Listener string `json:"listener,omitempty"`
}

// surveyed are the rows of a state: every class of packets, what becomes of it,
// and why.
func surveyed(c modes.Config, state rules.State, host sim.Host) ([]surveyRow, error) {
	space, err := survey.New(host, state)
	if err != nil {
		return nil, err
	}
	names := modes.PortNames(c)
	s := surveyor{capture: sim.EvaluatorOf(space.States[0], space.Host), bare: sim.NewEvaluator(space.Host),
		closed: sim.EvaluatorOf(space.States[0], withoutListeners(space.Host))}
	var out []surveyRow
	every := func(classFate) bool { return true }
	for _, r := range survey.Rows(space, s.classFate, compareFates, every) {
		out = append(out, surveyRow{Who: r.Who, Where: r.Where, Fate: r.Outcome.text(names), Why: r.Outcome.why,
			Example: headline(sim.Journey{Packet: r.Example}), Listener: names[r.Outcome.port]})
	}
	return out, nil
}

// surveyor evaluates packets by a ruleset whose listeners listen, by none, and by the
// ruleset where nothing listens.
type surveyor struct{ capture, bare, closed *sim.Evaluator }

// withoutListeners is the host where no socket is open.
func withoutListeners(h sim.Host) sim.Host {
	h.Assumes, h.Sockets = false, nil
	return h
}

func (s surveyor) classFate(p sim.Packet) (classFate, bool) {
	o, ok := classFateOf(s.capture, s.bare, p)
	if o.kind == sim.Proxied {
		o.none = classFate{kind: s.closed.Evaluate(p, nil).Fate.Kind}.text(nil)
	}
	return o, ok
}

// classFateOf evaluates a packet; false is for one that would not arrive anywhere
// if there were no rules.
func classFateOf(e, bare *sim.Evaluator, p sim.Packet) (classFate, bool) {
	j := e.Evaluate(p, nil)
	f := j.Fate
	if f.Kind == sim.LostInRouting && bare.Evaluate(p, nil).Fate.Kind == sim.LostInRouting {
		return classFate{}, false
	}
	o := classFate{kind: f.Kind, why: cmp.Or(j.Decision().Reason, "no rule decides about it")}
	if f.Src.Addr() != j.Packet.Src.Addr() {
		o.from = f.Src.Addr()
	}
	switch f.Kind {
	case sim.Redirected, sim.Proxied:
		o.port = f.Port
	case sim.LostInRouting, sim.Unknown:
		o.why = f.Why
	}
	return o, true
}

func (o classFate) text(names map[rules.Port]string) string {
	switch o.kind {
	case sim.Redirected, sim.Proxied:
		text := strings.TrimSpace(fmt.Sprintf("%s :%d", names[o.port], o.port))
		if o.none != "" {
			text += " (no listener: " + o.none + ")"
		}
		return text
	case sim.Untouched:
		if o.from.IsValid() {
			return "comes from " + o.from.String()
		}
		return "left alone"
	}
	return o.kind.String()
}

// explainAll prints every class of packets, what escapes the proxy first.
func (j *job) explainAll(c *config.File, state rules.State, host sim.Host) error {
	rows, err := surveyed(c.Config, state, host)
	if err != nil {
		return err
	}
	return printRows(j.cc, rows, surveyTable(rows))
}

func surveyTable(rows []surveyRow) [][]string {
	table := [][]string{{"who", "where to", "what happens", "why"}}
	for _, r := range rows {
		table = append(table, []string{r.Who, r.Where, r.Fate, r.Why})
	}
	return table
}

// printRows prints rows as --json or --markdown asks, or as a table; views are what
// programs read.
func printRows(cc *cli.Context, views any, table [][]string) error {
	switch w := cc.App.Writer; {
	case cc.Bool("json"):
		return writeJSON(w, views)
	case cc.Bool("markdown"):
		return printMarkdown(w, table)
	default:
		return printTable(w, table)
	}
}

// printTable prints rows in columns, the first of them as the heading.
func printTable(w io.Writer, rows [][]string) error {
	t := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	for i, r := range rows {
		line := strings.Join(escape.Texts(r), "\t")
		if i == 0 {
			line = strings.ToUpper(line)
		}
		fmt.Fprintln(t, line)
	}
	return t.Flush()
}

// printMarkdown prints rows as a table of Markdown, the first of them as the heading.
func printMarkdown(w io.Writer, rows [][]string) error {
	var b strings.Builder
	for i, r := range rows {
		for _, c := range r {
			b.WriteString("| " + cell(c) + " ")
		}
		b.WriteString("|\n")
		if i == 0 {
			b.WriteString(strings.Repeat("| --- ", len(r)) + "|\n")
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}
