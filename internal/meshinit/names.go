// SPDX-License-Identifier: Apache-2.0

//go:build linux

package meshinit

import (
	"errors"

	"github.com/weir-mesh/weir/internal/problems"
	"github.com/weir-mesh/weir/modes"
)

// Names are a program's flags and variables for the keys of a configuration, and its words for a key with
// a value.
type Names map[modes.Ref]string

// Name is the program's name for a key, or the key where it has none.
func (n Names) Name(r modes.Ref) string {
	if name, known := n[r]; known {
		return name
	}
	if name, known := n[modes.Ref{Key: r.Key}]; known && r.Value != "" {
		return name + " " + r.Value
	}
	return r.String()
}

// Note is a note that names the program's flags.
func (n Names) Note(note modes.Note) modes.Note { return note.Renamed(n.Name) }

// Problem is an error of modes, of which each [modes.ConfigError] names the program's flags. The others
// stay.
func (n Names) Problem(err error) error {
	var out []error
	for _, e := range problems.List(err) {
		var config *modes.ConfigError
		if errors.As(e, &config) {
			e = config.Renamed(n.Name)
		}
		out = append(out, e)
	}
	return problems.Join(out...)
}
