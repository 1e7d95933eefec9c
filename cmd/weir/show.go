package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/urfave/cli/v2"
	"github.com/weir-mesh/weir/capture"
	"github.com/weir-mesh/weir/config"
	"github.com/weir-mesh/weir/internal/continuity"
	"github.com/weir-mesh/weir/internal/escape"
	"github.com/weir-mesh/weir/nft"
	"github.com/weir-mesh/weir/rules"
)

func showCommand() *cli.Command {
	return &cli.Command{
		Usage: "print what is live, lifted and readable, with each rule's reason and counters",
		Description: "Example: weir show --pid 4711\n\n" +
			"Chains stand in the order in which packets meet them. With a configuration it\n" +
			"is compared too. --foreign shows a table of another program's.",
		Flags: withCommon(append(configurationFlags(), foreignFlag(),
			&cli.BoolFlag{Name: "verbose", Aliases: []string{"v"}, DisableDefaultText: true, Usage: "all elements of the sets"})...),
		Action: func(cc *cli.Context) error {
			c, given, err := optionalConfiguration(cc)
			if err != nil {
				return err
			}
			family, name, err := foreignTable(cc)
			switch {
			case err != nil:
				return err
			case name != "" && (given || c.Table != ""):
				return usageError{errors.New("--foreign shows a table that is not weir's, and takes no configuration")}
			}
			return inNamespace(cc, func(ctx context.Context, cmd *command) error {
				if err := cmd.connect(ctx); err != nil {
					return err
				}
				if name != "" {
					return cmd.showForeign(ctx, family, name)
				}
				return cmd.show(ctx, c, given)
			})
		},
	}
}

func foreignFlag() cli.Flag {
	return &cli.StringFlag{Name: "foreign", Usage: "another program's table, as `\"FAMILY NAME\"`"}
}

// foreignTable is what --foreign names, two empty words without it.
func foreignTable(cc *cli.Context) (family, name string, err error) {
	if !cc.IsSet("foreign") {
		return "", "", nil
	}
	words := strings.Fields(cc.String("foreign"))
	if len(words) != 2 {
		return "", "", usageError{fmt.Errorf("--foreign: %q is no table (want a family and a name, such as \"ip kube-proxy\")", cc.String("foreign"))}
	}
	return words[0], words[1], nil
}

func (cmd *command) show(ctx context.Context, c *config.File, given bool) error {
	cmd.table = c.TableName()
	live, err := cmd.conn.Read(ctx, cmd.table)
	if err != nil {
		return fmt.Errorf("show inet %s: %w", cmd.table, err)
	}
	v := newView(cmd.table, live)
	said := capture.Notices{Applying: live.Applying}
	if given {
		k, err := cmd.capture(c, capture.Options{})
		if err != nil {
			return err
		}
		defer k.Close()
		verdict, err := k.Verify(ctx)
		cmd.tell(c, verdict.Notes, nil)
		if err != nil {
			return cmd.failure(c, err)
		}
		v.Configuration = &agreement{Same: verdict.Clean(), Differences: differences(verdict.Differences)}
	}
	cmd.tell(c, nil, said.Messages())
	return cmd.printView(v)
}

func (cmd *command) printView(v view) error {
	if cmd.cc.Bool("json") {
		return writeJSON(cmd.out, v)
	}
	return v.print(cmd.out, cmd.cc.Bool("verbose"))
}

// showForeign shows a table of another's.
func (cmd *command) showForeign(ctx context.Context, family, name string) error {
	ruleset, err := cmd.conn.RulesetWith(ctx, elementsOf(family, name))
	if err != nil {
		return fmt.Errorf("show %s %s: %w", escape.Text(family), escape.Text(name), err)
	}
	t := ruleset.Find(family, name)
	if t == nil {
		return fmt.Errorf("show %s %s: there is no such table%s", escape.Text(family), escape.Text(name), thereAre(ruleset))
	}
	v := emptyView(name)
	v.Family, v.Present = family, true
	v.fill(t.Table)
	return cmd.printView(v)
}

// elementsOf has the elements of one table's sets read.
func elementsOf(family, name string) func(*nft.LiveTable) bool {
	return func(t *nft.LiveTable) bool { return t.Family == family && t.Name == name }
}

// noElements is for who looks at chains and rules alone.
func noElements(*nft.LiveTable) bool { return false }

func thereAre(r *nft.Ruleset) string {
	var titles []string
	for _, t := range r.Tables {
		titles = append(titles, t.Title())
	}
	if len(titles) == 0 {
		return ""
	}
	return " (there are: " + strings.Join(titles, ", ") + ")"
}

// view is what is live, as programs and people read it.
type view struct {
	Family  string      `json:"family"`
	Table   string      `json:"table"`
	Present bool        `json:"present"`
	State   string      `json:"state,omitempty"` // the hash
	Written string      `json:"written,omitempty"`
	Drifted bool        `json:"drifted"`
	Drains  bool        `json:"draining,omitempty"`
	Chains  []chainView `json:"chains"`
	Sets    []setView   `json:"sets"`
	Routing []string    `json:"routing"`
	Others  []string    `json:"others,omitempty"`
	Foreign []string    `json:"foreign"`

	Configuration *agreement `json:"configuration,omitempty"` // where one was given
}

// agreement is how the live state stands to a configuration.
type agreement struct {
	Same        bool         `json:"same"`
	Differences []difference `json:"differences"`
}

type chainView struct {
	Name     string     `json:"name"`
	Type     string     `json:"type,omitempty"`
	Hook     string     `json:"hook,omitempty"`
	Priority int32      `json:"priority"`
	Drop     bool       `json:"drop,omitempty"` // the policy
	Rules    []ruleView `json:"rules"`
}

type ruleView struct {
	Reason  string `json:"reason,omitempty"`
	Text    string `json:"text"`
	Counted bool   `json:"counted"`
	Packets uint64 `json:"packets"`
	Bytes   uint64 `json:"bytes"`
}

type setView struct {
	Name     string   `json:"name"`
	Type     string   `json:"type"`
	Elements []string `json:"elements"`
}

func emptyView(table string) view {
	return view{Family: "inet", Table: table, Chains: []chainView{}, Sets: []setView{}, Routing: []string{}, Foreign: []string{}}
}

func newView(table string, live *nft.Live) view {
	v := emptyView(table)
	v.Routing = append(v.Routing, live.State.Routing()...)
	for _, f := range live.Foreign {
		v.Foreign = append(v.Foreign, f.String()+": "+beside(live.State.Table, f.Base))
	}
	t := live.State.Table
	if t == nil {
		return v
	}
	v.Present, v.State = true, live.State.Hash()
	if live.Tag != nil {
		v.Written = live.Tag.String()
	}
	if drift, err := live.Drift(); err != nil || len(drift) > 0 {
		v.Drifted = true
	}
	v.Drains = continuity.IsDraining(t)
	v.fill(t)
	return v
}

// fill takes the table's parts in, chains in the order in which packets meet them.
func (v *view) fill(t *rules.Table) {
	v.Others = t.Unsupported()
	for _, s := range t.Sets {
		sv := setView{Name: s.Name, Type: s.Declaration(), Elements: []string{}}
		for _, e := range s.Elements {
			sv.Elements = append(sv.Elements, e.Text(s.Key))
		}
		v.Sets = append(v.Sets, sv)
	}
	for _, c := range t.PacketOrder() {
		v.Chains = append(v.Chains, newChainView(c))
	}
}

// beside is what another's base chain does to packets that ours see at the hook.
func beside(ours *rules.Table, b rules.Base) string {
	at := "no chain of ours is on this hook"
	if ours == nil {
		return at
	}
	for _, c := range ours.PacketOrder() {
		switch {
		case c.Base == nil || c.Base.Hook != b.Hook:
		case b.Priority < c.Base.Priority && b.Type == rules.NATType && c.Base.Type == rules.NATType:
			return "runs before ours and may decide first"
		case b.Priority < c.Base.Priority:
			return "runs before ours and may drop"
		case b.Priority == c.Base.Priority:
			return "has the priority of ours: the chain that was made last runs first"
		default:
			at = "runs after ours"
		}
	}
	return at
}

func newChainView(c *rules.Chain) chainView {
	v := chainView{Name: c.Name, Rules: []ruleView{}}
	if b := c.Base; b != nil {
		v.Type, v.Hook, v.Priority, v.Drop = string(b.Type), b.Hook.String(), b.Priority, b.Drop
	}
	for _, r := range c.Rules {
		rv := ruleView{Reason: r.Reason}
		for _, n := range r.Nodes {
			if count, ok := n.(rules.Counter); ok {
				rv.Counted, rv.Packets, rv.Bytes = true, count.Packets, count.Bytes
			}
		}
		r.Reason = ""
		rv.Text = r.String()
		v.Rules = append(v.Rules, rv)
	}
	return v
}

const maxShown = 8 // elements of a set that are printed unless all are asked for

func (v view) print(w io.Writer, verbose bool) error {
	p := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	switch {
	case !v.Present:
		fmt.Fprintf(p, "absent: there is no table inet %s\n", v.Table)
	case v.Family != "inet" || v.State == "":
		fmt.Fprintf(p, "table %s %s\n", v.Family, escape.Text(v.Table))
	case v.Written == "":
		fmt.Fprintf(p, "table inet %s, which holds no tag of weir's\n", v.Table)
	case v.Drains:
		fmt.Fprintf(p, "table inet %s, draining: nothing new is captured, and captured connections go on (%s)\n", v.Table, v.Written)
	case v.Drifted:
		fmt.Fprintf(p, "table inet %s, drifted from what was written (%s)\n", v.Table, escape.Text(v.Written))
	default:
		fmt.Fprintf(p, "table inet %s, as written (%s)\n", v.Table, escape.Text(v.Written))
	}
	v.Configuration.print(p)
	for _, c := range v.Chains {
		c.print(p)
	}
	for _, s := range v.Sets {
		s.print(p, verbose)
	}
	section(p, "routing", v.Routing)
	section(p, "unknown in this table", v.Others)
	section(p, "base chains of others", v.Foreign)
	return p.Flush()
}

func (c *agreement) print(w io.Writer) {
	switch {
	case c == nil:
	case c.Same:
		fmt.Fprintln(w, "it is what the configuration says")
	default:
		fmt.Fprintln(w, "it differs from what the configuration says (weir verify says how)")
	}
}

func (c chainView) print(w io.Writer) {
	place := "reached by jumps"
	if c.Hook != "" {
		place = fmt.Sprintf("%s %s %d", escape.Text(c.Type), c.Hook, c.Priority)
		if c.Drop {
			place += ", policy drop"
		}
	}
	fmt.Fprintf(w, "\nchain %s (%s)\n", escape.Text(c.Name), place)
	for i, r := range c.Rules {
		counts := "-"
		if r.Counted {
			counts = fmt.Sprintf("%d packets\t%d bytes", r.Packets, r.Bytes)
		}
		if r.Reason == "" {
			fmt.Fprintf(w, "  %d\t%s\t%s\n", i+1, counts, escape.Text(r.Text))
			continue
		}
		fmt.Fprintf(w, "  %d\t%s\t\"%s\"\n  \t%s\n", i+1, counts, escape.Text(r.Reason), escape.Text(r.Text))
	}
}

func (s setView) print(w io.Writer, verbose bool) {
	fmt.Fprintf(w, "\nset %s (%s), %d elements\n", escape.Text(s.Name), escape.Text(s.Type), len(s.Elements))
	shown := s.Elements
	if !verbose {
		shown = shown[:min(len(shown), maxShown)]
	}
	text := strings.Join(shown, ", ")
	if len(shown) < len(s.Elements) {
		text += ", ..."
	}
	if text != "" {
		fmt.Fprintf(w, "  %s\n", escape.Text(text))
	}
}

func section(w io.Writer, title string, lines []string) {
	if len(lines) == 0 {
		return
	}
	fmt.Fprintf(w, "\n%s\n", title)
	for _, l := range lines {
		fmt.Fprintf(w, "  %s\n", escape.Text(l))
	}
}
