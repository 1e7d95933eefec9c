package main

import (
	"fmt"
	"github.com/weir-mesh/weir/internal/escape"
	"io"
	"strings"
)

// tracePrinter writes packets as they arrive.
type tracePrinter interface {
	packet(*tracedPacket) error
	end(matched, traced uint64, lost uint32) error
}

func newTracePrinter(w io.Writer, asJSON bool) tracePrinter {
	if asJSON {
		return jsonTrace{w}
	}
	return textTrace{w}
}

// jsonTrace writes an object a line, and one with the counts at the end.
type jsonTrace struct{ io.Writer }

func (t jsonTrace) packet(p *tracedPacket) error {
	return writeJSONLine(t.Writer, p)
}

func (t jsonTrace) end(matched, traced uint64, lost uint32) error {
	return writeJSONLine(t.Writer, map[string]uint64{"matched": matched, "traced": traced, "lost": uint64(lost)})
}

type textTrace struct{ io.Writer }

func (t textTrace) end(uint64, uint64, uint32) error { return nil }

func (t textTrace) packet(p *tracedPacket) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%d %s %s -> %s", p.Number, p.Protocol, p.Source, p.Destination)
	for _, more := range []struct{ label, value string }{{" ", p.Flags}, {" in by ", p.In}, {" out by ", p.Out}} {
		if more.value != "" {
			b.WriteString(more.label + escape.Text(more.value))
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
			fmt.Fprintf(&b, "  %s chain %s of table %s %s\n", s.owner(), escape.Text(s.Chain), s.Family, escape.Text(s.Table))
		}
		b.WriteString("    " + escape.Text(s.String()) + "\n")
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
	return fmt.Sprintf(`rule %d "%s": %s`, s.Rule, escape.Text(s.Reason), s.Verdict)
}
