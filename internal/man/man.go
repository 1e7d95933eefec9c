// SPDX-License-Identifier: Apache-2.0

// Package man writes the manual pages of a command line: one for the program and one for each command,
// as roff for man(7).
package man

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
)

// Section is the manual's: programs of administration.
const Section = "8"

// Source is what the foot of each page says.
type Source struct {
	Version string
	Date    time.Time
}

// Write makes the pages in dir, which is there, and returns their names in the order of the commands.
func Write(app *cli.App, from Source, dir string) ([]string, error) {
	pages := []page{{name: app.Name, usage: app.Usage, synopsis: app.Name + " COMMAND [OPTIONS]", description: app.Description, flags: app.Flags}}
	pages[0].commands = app.Commands
	for _, c := range app.Commands {
		pages = append(pages, pagesOf([]string{app.Name}, c)...)
	}
	names := make([]string, 0, len(pages))
	for _, p := range pages {
		name := p.name + "." + Section
		if err := os.WriteFile(filepath.Join(dir, name), []byte(p.roff(app.Name, from)), 0o644); err != nil {
			return nil, err
		}
		names = append(names, name)
	}
	return names, nil
}

type page struct {
	name, usage, synopsis, description string
	flags                              []cli.Flag
	commands                           []*cli.Command
}

func pagesOf(above []string, c *cli.Command) []page {
	if c.Hidden {
		return nil
	}
	path := append(append([]string(nil), above...), c.Name)
	synopsis := strings.Join(path, " ")
	if len(c.Subcommands) > 0 {
		synopsis += " COMMAND"
	}
	if len(c.VisibleFlags()) > 0 {
		synopsis += " [OPTIONS]"
	}
	if c.ArgsUsage != "" {
		synopsis += " " + c.ArgsUsage
	}
	pages := []page{{name: strings.Join(path, "-"), usage: c.Usage, synopsis: synopsis, description: c.Description, flags: c.VisibleFlags(), commands: c.Subcommands}}
	for _, sub := range c.Subcommands {
		pages = append(pages, pagesOf(path, sub)...)
	}
	return pages
}

func (p page) roff(program string, from Source) string {
	var b strings.Builder
	fmt.Fprintf(&b, ".TH %s %s %s %q %q\n", strings.ToUpper(escape(p.name)), Section, from.Date.UTC().Format(time.DateOnly), program+" "+from.Version, "Weir")
	fmt.Fprintf(&b, ".SH NAME\n%s \\- %s\n", escape(p.name), line(p.usage))
	fmt.Fprintf(&b, ".SH SYNOPSIS\n.B %s\n", line(p.synopsis))
	if p.description != "" {
		// Examples and lists are laid out by hand: they keep their lines.
		fmt.Fprintf(&b, ".SH DESCRIPTION\n.nf\n%s\n.fi\n", lines(p.description))
	}
	if len(p.flags) > 0 {
		b.WriteString(".SH OPTIONS\n")
		for _, f := range p.flags {
			b.WriteString(option(f))
		}
	}
	if len(p.commands) > 0 {
		b.WriteString(".SH COMMANDS\n")
		for _, c := range p.commands {
			if !c.Hidden {
				fmt.Fprintf(&b, ".TP\n.BR %s (%s)\n%s\n", escape(p.name+"-"+c.Name), Section, line(c.Usage))
			}
		}
	}
	if p.name != program {
		fmt.Fprintf(&b, ".SH SEE ALSO\n.BR %s (%s)\n", escape(program), Section)
	}
	return b.String()
}

// option is one flag: its names, its value's placeholder and what it means.
func option(f cli.Flag) string {
	doc, documented := f.(cli.DocGenerationFlag)
	var usage, placeholder, standard string
	if documented {
		usage = doc.GetUsage()
		if doc.TakesValue() {
			placeholder, usage = unquoted(usage)
			standard = doc.GetDefaultText()
		}
	}
	names := make([]string, 0, 2)
	for _, n := range f.Names() {
		dashes := "--"
		if len(n) == 1 {
			dashes = "-"
		}
		names = append(names, "\\fB"+escape(dashes+n)+"\\fR")
	}
	head := strings.Join(names, ", ")
	if placeholder != "" {
		head += " \\fI" + escape(placeholder) + "\\fR"
	}
	if standard != "" {
		usage += " (default: " + standard + ")"
	}
	return fmt.Sprintf(".TP\n%s\n%s\n", head, line(usage))
}

// unquoted cuts the placeholder, which the flag library wants between backquotes, out of a usage text.
func unquoted(usage string) (placeholder, text string) {
	before, rest, ok := strings.Cut(usage, "`")
	name, after, ended := strings.Cut(rest, "`")
	if !ok || !ended {
		return "VALUE", usage
	}
	return name, before + name + after
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
