package modes

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"

	"github.com/weir-mesh/weir/internal/term"
)

// ConfigError is what is wrong with one key.
type ConfigError struct {
	Key     string // its path, such as outbound.excludePorts
	Word    string // the offending word, "" where the problem is not one word's
	Problem string // what it is, and what was expected
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

// Unwrap returns the cause.
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

// Note is something that the reader of a configuration should know and that is
// no error.
type Note struct {
	Key  string
	Text string
	Word string // that it is about, "" where it is not one word's

	message *message // Text, where it names keys
}

func (n Note) String() string { return n.Key + ": " + n.Text }
