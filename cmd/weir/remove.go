package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
	"github.com/weir-mesh/weir/internal/term"
	"github.com/weir-mesh/weir/modes"
	"github.com/weir-mesh/weir/nft"
	"github.com/weir-mesh/weir/rules"
)

func tableFlag() cli.Flag {
	return &cli.StringFlag{Name: "table", Value: modes.DefaultTable, Usage: "the nftables table, of family inet"}
}

// checkTable says what is wrong with the name that --table gives.
func checkTable(name string) error {
	if name == "" {
		return usageError{errors.New("--table: is empty (without the flag its default holds)")}
	}
	var wrong *modes.ConfigError
	if errors.As(modes.Check(modes.Config{Mode: modes.ModeNone, Table: name}), &wrong) {
		return usageError{fmt.Errorf("--table: %s", wrong.Detail())}
	}
	return nil
}

func drainFlag() cli.Flag {
	return &cli.DurationFlag{Name: "drain", Usage: "capture nothing more at once, and wait up to `TIME` for captured connections to end before removing"}
}

// drainTime is --drain, 0 without it.
func drainTime(cc *cli.Context) (time.Duration, error) {
	d := cc.Duration("drain")
	if cc.IsSet("drain") && d <= 0 {
		return 0, usageError{fmt.Errorf("--drain: %s is not a time to wait (want such as 30s)", d)}
	}
	return d, nil
}

func removeCommand() *cli.Command {
	return &cli.Command{
		Usage: "remove everything weir created, and nothing else",
		Description: "Example: weir remove --pid 4711 --drain 30s\n\n" +
			"Captured connections do not outlive the rules: without --drain they are reset.\n" +
			"A drain that is interrupted leaves a table that captures nothing; weir remove\n" +
			"takes it away, weir apply captures again.",
		Flags: withCommon(tableFlag(), drainFlag()),
		Action: func(cc *cli.Context) error {
			table := cc.String("table")
			if err := checkTable(table); err != nil {
				return err
			}
			return inNamespace(cc, func(ctx context.Context, j *job) error { return j.remove(ctx, table) })
		},
	}
}

func (j *job) remove(ctx context.Context, table string) error {
	j.table = table
	drain, err := drainTime(j.cc)
	if err != nil {
		return err
	}
	if err := j.connect(ctx); err != nil {
		return err
	}
	s := j.session()
	var result nft.Result
	if drain > 0 {
		result, err = s.Drain(ctx, drain, func(c nft.Captured) {
			fmt.Fprintf(j.err, "note: nothing new is captured; waiting up to %s for %s to end\n", drain, capturedWords(c))
		})
	} else {
		reset := 0
		if reset, err = j.noteReset(ctx, s, func(text string) { fmt.Fprintln(j.err, text) }); err != nil {
			return fmt.Errorf("remove inet %s: %w", j.table, err)
		}
		result, err = s.Remove(ctx)
		result.Reset = reset
	}
	if err != nil {
		return fmt.Errorf("remove inet %s: %w", j.table, err)
	}
	if drain > 0 && result.Reset > 0 {
		fmt.Fprintf(j.err, "note: the time was over: %s\n", wereReset(result.Reset))
	}
	return j.report(rules.State{}, result)
}

// noteReset tells how many connections a remove is going to reset.
func (j *job) noteReset(ctx context.Context, s *nft.Session, tell func(string)) (int, error) {
	c, err := s.Captured(ctx)
	if err != nil || !c.Any() {
		return 0, err
	}
	where := ""
	if j.oneOf != "" {
		where = j.oneOf + ": "
	}
	tell(fmt.Sprintf("note: %s%s will be reset (weir remove --drain 30s lets them end)", where, capturedWords(c)))
	return c.Redirected + c.Proxied, nil
}

// capturedWords are such as "3 redirected connections".
func capturedWords(c nft.Captured) string {
	var words []string
	if c.Redirected > 0 {
		words = append(words, term.Count(c.Redirected, "redirected connection"))
	}
	if c.Proxied > 0 {
		words = append(words, term.Count(c.Proxied, "connection")+" by TPROXY")
	}
	if c.Uncounted != nil {
		words = append(words, fmt.Sprintf("an unknown number of connections (%v)", c.Uncounted))
	}
	return strings.Join(words, " and ")
}

func wereReset(n int) string {
	if n == 1 {
		return "1 connection was reset"
	}
	return fmt.Sprintf("%d connections were reset", n)
}
