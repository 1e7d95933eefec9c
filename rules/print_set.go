// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"strings"
	"time"

	"github.com/weir-mesh/weir/internal/escape"
	"github.com/weir-mesh/weir/internal/reserved"
)

// String is the set's declaration and elements.
func (s *Set) String() string {
	p := &printer{}
	p.set(s)
	return p.String()
}

func (s *Set) kind() string {
	if s.Verdicts {
		return "map"
	}
	return "set"
}

// title names the set in a message or a script: another program may have named
// it.
func (s *Set) title() string { return s.kind() + " " + escape.Text(s.Name) }

// Declaration is what the set is, without its elements, on one line.
func (s *Set) Declaration() string { return strings.Join(s.declaration(), "; ") }

func (s *Set) declaration() []string {
	typ := "type " + joinTypes(s.Key)
	if s.Verdicts {
		typ += " : verdict"
	}
	lines := []string{typ}
	if s.Size > 0 {
		lines = append(lines, fmt.Sprintf("size %d", s.Size))
	}
	if flags := s.flags(); flags != "" {
		lines = append(lines, "flags "+flags)
	}
	if s.Counters {
		lines = append(lines, "counter")
	}
	if s.Quota > 0 {
		lines = append(lines, fmt.Sprintf("quota %d bytes", s.Quota))
	}
	if s.Timeout > 0 {
		lines = append(lines, "timeout "+nftDuration(s.Timeout))
	}
	if s.Sweep > 0 {
		lines = append(lines, "gc-interval "+nftDuration(s.Sweep))
	}
	if s.Live {
		lines = append(lines, "comment "+quote(reserved.LiveComment))
	}
	if s.Others != "" {
		lines = append(lines, unknown(strings.TrimSpace(s.Others)))
	}
	return lines
}

func (p *printer) set(s *Set) {
	p.block(s.title(), func() {
		for _, l := range s.declaration() {
			p.line("%s", l)
		}
		if len(s.Elements) > 0 {
			p.elements(s)
		}
	})
}

func (p *printer) elements(s *Set) {
	if p.most > 0 && len(s.Elements) > p.most {
		p.line("# %d elements", len(s.Elements))
		return
	}
	const perLine = 4
	p.line("elements = {")
	p.indent++
	for i := 0; i < len(s.Elements); i += perLine {
		chunk := s.Elements[i:min(i+perLine, len(s.Elements))]
		words := make([]string, len(chunk))
		for j, e := range chunk {
			words[j] = e.Text(s.Key)
		}
		end := ","
		if i+perLine >= len(s.Elements) {
			end = ""
		}
		p.line("%s%s", strings.Join(words, ", "), end)
	}
	p.indent--
	p.line("}")
}

func (s *Set) flags() string {
	var words []string
	for _, f := range []struct {
		on   bool
		name string
	}{{s.Interval, "interval"}, {s.Dynamic, "dynamic"}, {s.Expires, "timeout"}} {
		if f.on {
			words = append(words, f.name)
		}
	}
	return strings.Join(words, ",")
}

// nftDuration is a time as nft writes it: 1d2h3m4s500ms.
func nftDuration(d time.Duration) string {
	var b strings.Builder
	for _, u := range []struct {
		name string
		unit time.Duration
	}{{"d", 24 * time.Hour}, {"h", time.Hour}, {"m", time.Minute}, {"s", time.Second}, {"ms", time.Millisecond}} {
		if n := d / u.unit; n > 0 {
			fmt.Fprintf(&b, "%d%s", n, u.name)
			d -= n * u.unit
		}
	}
	return b.String()
}

func joinTypes(types []DataType) string {
	words := make([]string, len(types))
	for i, t := range types {
		words[i] = t.String()
	}
	return strings.Join(words, " . ")
}

// Text is the element as nft writes it in a set with that key.
func (e Element) Text(key []DataType) string {
	words := make([]string, len(e.Key))
	for i, r := range e.Key {
		typ := noType
		if i < len(key) {
			typ = key[i]
		}
		words[i] = typ.FormatRange(r)
	}
	text := strings.Join(words, " . ")
	if e.Timeout > 0 {
		text += " timeout " + nftDuration(e.Timeout)
	}
	if e.Comment != "" {
		text += " comment " + quote(e.Comment)
	}
	if e.Verdict != (Verdict{}) {
		text += " : " + e.Verdict.text(nil)
	}
	return text
}
