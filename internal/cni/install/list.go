// SPDX-License-Identifier: Apache-2.0

//go:build linux

package install

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/weir-mesh/weir/internal/cni"
)

// list is a network list as text, and where in it the entries are.
type list struct {
	text    []byte
	name    string
	version string
	opens   int     // the offset behind the bracket of the plugins
	closes  int     // the offset of the bracket that ends them
	entries []entry // in order
}

// entry is a plugin's: text[start:end].
type entry struct {
	start, end int
	kind       string // the plugin's type
}

var errNoPlugins = errors.New("it is not a network list: it has no plugins")

// parseList finds the entries of a network list. It is an error that the text is none.
func parseList(text []byte) (list, error) {
	l := list{text: text, opens: -1}
	d := json.NewDecoder(bytes.NewReader(text))
	if first, err := d.Token(); err != nil || first != json.Delim('{') {
		return l, fmt.Errorf("it is not a map in JSON: %w", whole(err))
	}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return l, err
		}
		switch key {
		case "plugins":
			if l.opens >= 0 {
				return l, errors.New("it has plugins twice")
			}
			err = l.readPlugins(d)
		case "name":
			err = d.Decode(&l.name)
		case "cniVersion":
			err = d.Decode(&l.version)
		default:
			var skipped json.RawMessage
			err = d.Decode(&skipped)
		}
		if err != nil {
			return l, err
		}
	}
	if _, err := d.Token(); err != nil {
		return l, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return l, errors.New("something follows the map")
	}
	if l.opens < 0 {
		return l, errNoPlugins
	}
	return l, nil
}

// whole is an error, or that something else than a map is there.
func whole(err error) error {
	if err == nil {
		return errors.New("want {")
	}
	return err
}

func (l *list) readPlugins(d *json.Decoder) error {
	if open, err := d.Token(); err != nil || open != json.Delim('[') {
		return errNoPlugins
	}
	l.opens = int(d.InputOffset())
	for d.More() {
		start := int(d.InputOffset())
		start += len(l.text[start:]) - len(bytes.TrimLeft(l.text[start:], ", \t\r\n"))
		var plugin struct {
			Type string `json:"type"`
		}
		if err := d.Decode(&plugin); err != nil {
			return err
		}
		l.entries = append(l.entries, entry{start, int(d.InputOffset()), plugin.Type})
	}
	if _, err := d.Token(); err != nil {
		return err
	}
	l.closes = int(d.InputOffset()) - 1
	return nil
}

func (l list) isOurs(e entry) bool { return e.kind == cni.Type }

// has reports whether the plugin is in the list.
func (l list) has() bool { return slices.ContainsFunc(l.entries, l.isOurs) }

// ours is the plugin's entry as it stands; nil where it is not in the list.
func (l list) ours() []byte {
	i := slices.IndexFunc(l.entries, l.isOurs)
	if i < 0 {
		return nil
	}
	return l.text[l.entries[i].start:l.entries[i].end]
}

// without is the list without the plugin; everything else stays as it is, byte for byte.
func (l list) without() ([]byte, error) {
	for l.has() {
		i := slices.IndexFunc(l.entries, l.isOurs)
		from, to := l.entries[i].start, l.entries[i].end
		switch {
		case len(l.entries) == 1:
			return nil, errors.New("it is a list of nothing else")
		case i > 0:
			from = l.entries[i-1].end // the comma before it goes too
		default:
			to = l.entries[1].start
		}
		var err error
		if l, err = parseList(slices.Concat(l.text[:from], l.text[to:])); err != nil {
			return nil, err
		}
	}
	return l.text, nil
}

// with is the list with an entry as its last one, laid out as those before it.
func (l list) with(added []byte) ([]byte, error) {
	rest, err := l.without()
	if err != nil {
		return nil, err
	}
	if l, err = parseList(rest); err != nil {
		return nil, err
	}
	if len(l.entries) == 0 {
		return nil, errors.New("it has no plugin that makes a network")
	}
	last := l.entries[len(l.entries)-1]
	before := l.opens
	if len(l.entries) > 1 {
		before = l.entries[len(l.entries)-2].end
	}
	gap := strings.TrimPrefix(string(l.text[before:last.start]), ",") // the blanks before an entry
	if at := strings.LastIndexByte(gap, '\n'); at >= 0 {
		added = indent(added, gap[at+1:])
	}
	out := slices.Concat(l.text[:last.end], []byte(","+gap), added, l.text[last.end:])
	_, err = parseList(out)
	return out, err
}

// indent lays an entry out over lines that begin with those blanks.
func indent(entry []byte, blanks string) []byte {
	unit := "  "
	if strings.HasPrefix(blanks, "\t") {
		unit = "\t"
	}
	var b bytes.Buffer
	if json.Indent(&b, entry, blanks, unit) != nil {
		return entry
	}
	return b.Bytes()
}

// wrap makes a list of a configuration of one plugin.
func wrap(text []byte) ([]byte, error) {
	var single struct {
		Version json.RawMessage `json:"cniVersion"`
		Name    json.RawMessage `json:"name"`
		Type    string          `json:"type"`
	}
	if err := json.Unmarshal(text, &single); err != nil {
		return nil, err
	}
	if single.Type == "" {
		return nil, errors.New("it is not a network configuration: it has no type")
	}
	var b bytes.Buffer
	b.WriteString("{\n")
	if single.Version != nil {
		fmt.Fprintf(&b, "  \"cniVersion\": %s,\n", single.Version)
	}
	if single.Name != nil {
		fmt.Fprintf(&b, "  \"name\": %s,\n", single.Name)
	}
	fmt.Fprintf(&b, "  \"plugins\": [\n    %s\n  ]\n}\n", bytes.TrimSpace(text))
	return b.Bytes(), nil
}
