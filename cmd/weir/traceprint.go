// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"fmt"
	"strings"

	"github.com/weir-mesh/weir/internal/escape"
	"github.com/weir-mesh/weir/internal/term"
	"github.com/weir-mesh/weir/internal/trace"
	"github.com/weir-mesh/weir/internal/tty"
)

// printTraced writes a packet as it arrives: as text, or as an object a line.
func (cmd *command) printTraced(p *trace.Packet) error {
	if cmd.cc.Bool("json") {
		return writeJSONLine(cmd.out, p)
	}
	return writeText(cmd.out, tracedText(p, tty.LookOf(cmd.out)))
}

// printTraceCounts says what the trace left out.
func (cmd *command) printTraceCounts(c trace.Counts, rate uint32) error {
	if cmd.cc.Bool("json") {
		if err := writeJSONLine(cmd.out, map[string]uint64{"matched": c.Matched, "traced": c.Traced, "lost": uint64(c.Lost)}); err != nil {
			return err
		}
	}
	switch {
	case c.Matched == 0:
		fmt.Fprintln(cmd.err, "note: no packet matched")
	case c.Traced < c.Matched:
		fmt.Fprintf(cmd.err, "note: %d packets matched, %d of them above --rate %d were not traced\n", c.Matched, c.Matched-c.Traced, rate)
	}
	if c.Lost > 0 {
		fmt.Fprintf(cmd.err, "warning: %d notifications were lost, and with them steps of packets: want a smaller --rate\n", c.Lost)
	}
	return nil
}

// tracedText is a packet in lines: the packet, then the chains that it met, each with its steps.
func tracedText(p *trace.Packet, look term.Look) string {
	var b strings.Builder
	line := func(s term.Style, text string) { b.WriteString(look.Paint(s, look.Fold(text)) + "\n") }
	line(term.Bold, tracedPacket(p))
	if len(p.Steps) == 0 {
		line(term.Plain, "  meets no chain (of a connection nat chains see the first packet alone)")
	}
	var at string
	for _, s := range p.Steps {
		if chain := s.Family + " " + s.Table + " " + s.Chain; chain != at {
			at = chain
			owner, style := "weir's", term.Plain
			if s.Foreign {
				owner, style = "another's", term.Yellow
			}
			line(style, fmt.Sprintf("  %s chain %s of table %s %s", owner, escape.Text(s.Chain), s.Family, escape.Text(s.Table)))
		}
		line(term.Plain, "    "+escape.Text(stepText(s)))
	}
	return b.String()
}

func tracedPacket(p *trace.Packet) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d %s %s -> %s", p.Number, p.Protocol, p.Source, p.Destination)
	for _, more := range []struct{ label, value string }{{" ", p.Flags}, {" in by ", p.In}, {" out by ", p.Out}} {
		if more.value != "" {
			b.WriteString(more.label + escape.Text(more.value))
		}
	}
	if p.UID != nil {
		fmt.Fprintf(&b, " of uid %d", *p.UID)
	}
	if p.Mark != 0 {
		fmt.Fprintf(&b, " mark 0x%x", p.Mark)
	}
	if p.Again {
		b.WriteString(", once more")
	}
	return b.String()
}

func stepText(s trace.Step) string {
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
	return fmt.Sprintf(`rule %d "%s": %s`, s.Rule, escape.Text(s.Reason), s.Verdict)
}
