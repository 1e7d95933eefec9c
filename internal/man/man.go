// SPDX-License-Identifier: Apache-2.0

// Package man writes the manual pages of a command line: one for the program and one for each command,
// as roff for man(7).
package man

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Section is the manual's: programs of administration.
const Section = "8"

// Source is what the foot of each page says.
type Source struct {
	Version string
	Date    time.Time
}

// Command is a command line, or a command of it.
type Command struct {
	Name, Usage string
	Arguments   string // that follow, such as [FILE]
	Description string // whose lines stay as they are
	Options     []Option
	Commands    []Command
}

// Option is a flag.
type Option struct {
	Names       []string // with their dashes
	Placeholder string   // of its value; "": it takes none
	Usage       string
}

// Write makes the pages of a program in dir, which is there, and returns their names in the order of the commands.
func Write(program Command, from Source, dir string) ([]string, error) {
	var names []string
	for _, p := range pagesOf(nil, program) {
		name := p.name + "." + Section
		if err := os.WriteFile(filepath.Join(dir, name), []byte(p.roff(program.Name, from)), 0o644); err != nil {
			return nil, err
		}
		names = append(names, name)
	}
	return names, nil
}

type page struct {
	Command
	name, synopsis string
}

func pagesOf(above []string, c Command) []page {
	path := append(slices.Clone(above), c.Name)
	synopsis := strings.Join(path, " ")
	if len(c.Commands) > 0 {
		synopsis += " COMMAND"
	}
	if len(c.Options) > 0 {
		synopsis += " [OPTIONS]"
	}
	if c.Arguments != "" {
		synopsis += " " + c.Arguments
	}
	pages := []page{{c, strings.Join(path, "-"), synopsis}}
	for _, sub := range c.Commands {
		pages = append(pages, pagesOf(path, sub)...)
	}
	return pages
}

func (p page) roff(program string, from Source) string {
	var b strings.Builder
	fmt.Fprintf(&b, ".TH %s %s %s %q %q\n", strings.ToUpper(escape(p.name)), Section, from.Date.UTC().Format(time.DateOnly), program+" "+from.Version, "Weir")
	fmt.Fprintf(&b, ".SH NAME\n%s \\- %s\n", escape(p.name), line(p.Usage))
	fmt.Fprintf(&b, ".SH SYNOPSIS\n.B %s\n", line(p.synopsis))
	if p.Description != "" {
		// Examples and lists are laid out by hand: they keep their lines.
		fmt.Fprintf(&b, ".SH DESCRIPTION\n.nf\n%s\n.fi\n", lines(p.Description))
	}
	if len(p.Options) > 0 {
		b.WriteString(".SH OPTIONS\n")
		for _, o := range p.Options {
			b.WriteString(o.roff())
		}
	}
	if len(p.Commands) > 0 {
		b.WriteString(".SH COMMANDS\n")
		for _, c := range p.Commands {
			fmt.Fprintf(&b, ".TP\n.BR %s (%s)\n%s\n", escape(p.name+"-"+c.Name), Section, line(c.Usage))
		}
	}
	if p.name != program {
		fmt.Fprintf(&b, ".SH SEE ALSO\n.BR %s (%s)\n", escape(program), Section)
	}
	return b.String()
}

func (o Option) roff() string {
	names := make([]string, len(o.Names))
	for i, n := range o.Names {
		names[i] = "\\fB" + escape(n) + "\\fR"
	}
	head := strings.Join(names, ", ")
	if o.Placeholder != "" {
		head += " \\fI" + escape(o.Placeholder) + "\\fR"
	}
	return fmt.Sprintf(".TP\n%s\n%s\n", head, line(o.Usage))
}

// line is text as one line of roff.
func line(s string) string { return guarded(escape(strings.Join(strings.Fields(s), " "))) }

// lines is text whose line ends stay.
func lines(s string) string {
	all := strings.Split(strings.TrimRight(s, "\n"), "\n")
	for i, l := range all {
		all[i] = guarded(escape(l))
	}
	return strings.Join(all, "\n")
}

func escape(s string) string { return strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(s) }

// guarded keeps a line that begins like a request of roff from being one.
func guarded(s string) string {
	if strings.HasPrefix(s, ".") || strings.HasPrefix(s, "'") {
		return `\&` + s
	}
	return s
}
