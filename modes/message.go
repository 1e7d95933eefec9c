// SPDX-License-Identifier: Apache-2.0

package modes

import (
	"fmt"
	"slices"
)

// Ref is a key that a message names, with a value where it is about that one.
type Ref struct{ Key, Value string }

// String is the reference as a configuration has it, such as inbound.via: none.
func (r Ref) String() string {
	if r.Value == "" {
		return r.Key
	}
	return r.Key + ": " + r.Value
}

// message is a text of which the arguments that are a [Ref] may be named otherwise.
type message struct {
	format string
	args   []any
}

func (m message) text(name func(Ref) string) string {
	args := slices.Clone(m.args)
	for i, a := range args {
		if ref, ok := a.(Ref); ok {
			args[i] = name(ref)
		}
	}
	return fmt.Sprintf(m.format, args...)
}

// newMessage is the text, and the message that it can be made of again where it names
// a key.
func newMessage(format string, args []any) (text string, m *message) {
	if slices.ContainsFunc(args, func(a any) bool { _, ok := a.(Ref); return ok }) {
		m = &message{format, args}
	}
	return fmt.Sprintf(format, args...), m
}

// Renamed is the problem as a program tells it that has other names for keys: name
// returns the name of a key, and what stands for a key with a value.
func (e *ConfigError) Renamed(name func(Ref) string) *ConfigError {
	out := *e
	out.Key = name(Ref{Key: e.Key})
	if e.message != nil {
		out.Problem = e.message.text(name)
	}
	return &out
}

// Renamed is the note with other names for keys, as [ConfigError.Renamed] has them.
func (n Note) Renamed(name func(Ref) string) Note {
	n.Key = name(Ref{Key: n.Key})
	if n.message != nil {
		n.Text = n.message.text(name)
	}
	return n
}
