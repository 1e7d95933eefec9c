package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/urfave/cli/v2"
	"github.com/weir-mesh/weir/config"
	"github.com/weir-mesh/weir/modes"
	"github.com/weir-mesh/weir/rules"
	"github.com/weir-mesh/weir/sim"
	"github.com/weir-mesh/weir/sim/survey"
)

func compareCommand() *cli.Command {
	return &cli.Command{
		Name:      "compare",
		Usage:     "say which traffic changes fate between two configurations",
		ArgsUsage: "OLD NEW",
		Description: "Example: weir compare old.yaml new.yaml\n\n" +
			"It compares what becomes of every class of packets, not how it is written, and\n" +
			"gives an example of each class that changes. It exits 3 where any does. With\n" +
			"--live, one configuration is compared with what the namespace holds of its table.",
		Flags: withCommon(
			&cli.BoolFlag{Name: "live", DisableDefaultText: true, Usage: "what the namespace holds stands for OLD"},
			&cli.BoolFlag{Name: "markdown", DisableDefaultText: true, Usage: "print Markdown"},
			environmentFlag("else the pod has both families, and the names of /etc"),
			addressFlag(),
		),
		Action: func(cc *cli.Context) error {
			want := 2
			if cc.Bool("live") {
				want = 1
			}
			if cc.Args().Len() != want {
				return usageError{fmt.Errorf("compare takes two configurations, or one with --live; %d were given", cc.Args().Len())}
			}
			var configs []*config.File
			var errs []error
			for _, name := range cc.Args().Slice() {
				c, err := loadFile(cc, name)
				configs, errs = append(configs, c), append(errs, err)
			}
			if err := errors.Join(errs...); err != nil {
				return usageError{err}
			}
			return inNamespace(cc, func(ctx context.Context, j *job) error { return j.compareFates(ctx, configs) })
		},
	}
}

// loadFile is the configuration in a file, checked.
func loadFile(cc *cli.Context, name string) (*config.File, error) {
	data, err := readInput(cc.Context, name, cc.App.Reader)
	if err != nil {
		return nil, err
	}
	return config.Parse(inputName(name), data)
}

func (j *job) compareFates(ctx context.Context, configs []*config.File) error {
	var states []rules.State
	if j.cc.Bool("live") {
		live, err := j.liveState(ctx, configs[0].TableName())
		if err != nil {
			return fmt.Errorf("compare --live: %w", err)
		}
		states = append(states, live)
	}
	var asked modes.Lookups
	for _, c := range configs {
		asked = asked.With(c.Lookups())
	}
	env, err := j.assumedEnvironment(ctx, asked)
	if err != nil {
		return err
	}
	for _, c := range configs {
		s, err := j.wanted(c, env)
		if err != nil {
			return err
		}
		j.noted = false
		states = append(states, s)
	}
	host, err := assumedHost(j.cc)
	if err != nil {
		return usageError{err}
	}
	names := listenerNames{modes.PortNames(configs[0].Config), modes.PortNames(configs[len(configs)-1].Config)}
	rows, err := changes(host, states[0], states[1])
	if err != nil {
		return err
	}
	if err := printChanges(j.cc, rows, names); err != nil {
		return err
	}
	if len(rows) > 0 {
		return errDiffers
	}
	return nil
}

func (j *job) liveState(ctx context.Context, table string) (rules.State, error) {
	if err := j.connect(ctx); err != nil {
		return rules.State{}, err
	}
	live, err := j.conn.Read(ctx, table)
	if err != nil {
		return rules.State{}, err
	}
	return live.State, nil
}

// change is what became of a class of packets, and what becomes of it now.
type change struct{ before, after wholeFate }

// listenerNames are those of the listeners before and after, by their ports.
type listenerNames struct{ before, after map[rules.Port]string }

// texts are both fates; where all else is alike, with where the packet goes.
func (c change) texts(names listenerNames) (before, after string) {
	before, after = c.before.text(names.before), c.after.text(names.after)
	if before == after {
		before, after = before+c.before.way(), after+c.after.way()
	}
	return before, after
}

// wholeFate is all of a fate that a listener, or another rule, can tell.
type wholeFate struct {
	kind         sim.FateKind
	port         rules.Port
	out          string
	from         netip.Addr // as of a classFate
	mark, ctMark rules.Mark
	zone         rules.Zone
}

func wholeFateOf(e *sim.Evaluator, p sim.Packet) wholeFate {
	j := e.Evaluate(p, nil)
	f := j.Fate
	w := wholeFate{kind: f.Kind, port: f.Port, out: f.Out, mark: f.Mark, ctMark: f.CTMark, zone: f.Zone}
	if f.Kind == sim.Dropped || f.Kind == sim.LostInRouting {
		return wholeFate{kind: f.Kind}
	}
	if f.Src.Addr() != j.Packet.Src.Addr() {
		w.from = f.Src.Addr()
	}
	return w
}

func (w wholeFate) text(names map[rules.Port]string) string {
	return classFate{kind: w.kind, port: w.port, from: w.from}.text(names) + marksText(w.mark, w.ctMark, w.zone)
}

func (w wholeFate) way() string {
	if w.out == "" {
		return ", delivered here"
	}
	return ", leaves by " + w.out
}

// changes are the classes of packets whose fate is another.
func changes(host sim.Host, before, after rules.State) ([]survey.Row[change], error) {
	space, err := survey.New(host, before, after)
	if err != nil {
		return nil, err
	}
	was, is, bare := sim.EvaluatorOf(space.States[0], space.Host), sim.EvaluatorOf(space.States[1], space.Host), sim.NewEvaluator(space.Host)
	fates := func(p sim.Packet) (change, bool) {
		c := change{wholeFateOf(was, p), wholeFateOf(is, p)}
		lost := c.before.kind == sim.LostInRouting || c.after.kind == sim.LostInRouting
		return c, !lost || bare.Evaluate(p, nil).Fate.Kind != sim.LostInRouting
	}
	order := func(a, b change) int {
		rank := func(w wholeFate) int { return classFate{kind: w.kind}.rank() }
		return cmp.Or(cmp.Compare(rank(a.after), rank(b.after)), cmp.Compare(rank(a.before), rank(b.before)), cmp.Compare(a.after.port, b.after.port))
	}
	return survey.Rows(space, fates, order, func(c change) bool { return c.before != c.after }), nil
}

// changeView is a change as programs read it.
type changeView struct {
	Who     string `json:"who"`
	Where   string `json:"where"`
	Before  string `json:"before"`
	After   string `json:"after"`
	Example string `json:"example"`
}

func printChanges(cc *cli.Context, rows []survey.Row[change], names listenerNames) error {
	views := []changeView{}
	for _, r := range rows {
		before, after := r.Outcome.texts(names)
		views = append(views, changeView{r.Who, r.Where, before, after, headline(sim.Journey{Packet: r.Example})})
	}
	if len(views) == 0 && !cc.Bool("json") {
		_, err := fmt.Fprintln(cc.App.Writer, "no traffic changes fate")
		return err
	}
	table := [][]string{{"who", "where to", "before", "after", "example"}}
	for _, v := range views {
		table = append(table, []string{v.Who, v.Where, v.Before, v.After, v.Example})
	}
	return printRows(cc, views, table)
}
