// SPDX-License-Identifier: Apache-2.0

package modes

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"

	"github.com/weir-mesh/weir/internal/problems"
	"github.com/weir-mesh/weir/internal/term"
)

// ConfigError is what is wrong with one key. Its message is the key, the word in
// quotes where there is one, and the problem:
//
//	outbound.excludePorts: "70000" is not a port (want a number of 1-65535, ...)
type ConfigError struct {
	Key     string // its path, such as outbound.excludePorts, or as it was written
	Word    string // the offending word, "" where the problem is not one word's
	Problem string // what is wrong, and what was expected
	Missing bool   // the environment lacks what the configuration wants: its words are right
	Cause   error  // why the environment does not hold what would be looked up; nil where it does

	message *message // Problem, where it names keys
}

func (e *ConfigError) Error() string {
	key := term.Shorten(e.Key)
	if strings.ContainsFunc(key, func(c rune) bool { return !unicode.IsPrint(c) }) {
		key = strconv.Quote(key) // a key that was written, and is none
	}
	return key + ": " + e.Detail()
}

// Unwrap is the Cause.
func (e *ConfigError) Unwrap() error { return e.Cause }

// Detail is the message without the key.
func (e *ConfigError) Detail() string {
	text := e.Problem
	if e.Word != "" {
		text = fmt.Sprintf("%q %s", term.Shorten(e.Word), text)
	}
	if e.Cause != nil {
		text += fmt.Sprintf(" (%v)", e.Cause)
	}
	return text
}

// Problems lists what is wrong with a configuration, in the order in which an error
// of [State] or [Check] tells it, and also what its message only counts. Errors that
// are not about a key are left out; the list of nil is empty.
func Problems(err error) []*ConfigError {
	var out []*ConfigError
	for _, e := range problems.List(err) {
		var config *ConfigError
		if errors.As(e, &config) {
			out = append(out, config)
		}
	}
	return out
}

// Note is something that the reader of a configuration should know and that is
// not an error.
type Note struct {
	Key  string // its path, such as outbound.port
	Text string // without the key
	Word string // that it is about, "" where it is not one word's

	message *message // Text, where it names keys
}

func (n Note) String() string { return n.Key + ": " + n.Text }
