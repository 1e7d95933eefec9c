// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"

	"github.com/weir-mesh/weir/internal/escape"
	"github.com/weir-mesh/weir/modes"
)

// Place is where something was written. Its text is that of compilers,
// pod.yaml:4:22, and for a flag --table or --outbound-exclude-cidrs: FILE:3. The
// zero Place is nowhere: what is absent has no place.
type Place struct {
	File string // a file's name, "" where there is none
	Flag string // a flag, with its dashes; with a File it is the flag that names the file

	// Line and Column count from 1, columns in characters. They are 0 where the
	// file or flag is all that is known.
	Line, Column int
}

func (p Place) String() string {
	source := escape.Text(p.File)
	switch {
	case p.Flag != "" && p.File != "":
		source = escape.Text(p.Flag) + ": " + source
	case p.Flag != "":
		source = escape.Text(p.Flag)
	}
	switch {
	case p.Line == 0:
		return source
	case p.Column == 0:
		return fmt.Sprintf("%s:%d", source, p.Line)
	}
	return fmt.Sprintf("%s:%d:%d", source, p.Line, p.Column)
}

// before is a message with the place in front, where there is one.
func (p Place) before(message string) string {
	if p.File == "" && p.Flag == "" {
		return message
	}
	return p.String() + ": " + message
}

// namesKey reports whether the place says by itself which key it is about: a flag
// does, and a word in a map that a flag's value holds does not.
func (p Place) namesKey() bool { return p.Flag != "" && p.Column == 0 }

// Problem is one thing that is wrong with what was written, and where it stands.
type Problem struct {
	Place Place
	Err   error // a [*modes.ConfigError] where it is about a key
}

// Error is the place and what is wrong there, without the key where the place is
// the key's flag.
func (p *Problem) Error() string {
	if config, ok := p.Err.(*modes.ConfigError); ok && p.Place.namesKey() {
		return p.Place.before(config.Detail())
	}
	return p.Place.before(p.Err.Error())
}

// Unwrap is what is wrong, without the place.
func (p *Problem) Unwrap() error { return p.Err }
