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
}

func (e *ConfigError) Error() string {
	key := term.Shorten(e.Key)
	if strings.ContainsFunc(key, func(c rune) bool { return !unicode.IsPrint(c) }) {
		key = strconv.Quote(key) // a key that was written, and is none
	}
	return key + ": " + e.Detail()
}

// Detail is the message without the key.
func (e *ConfigError) Detail() string {
	if e.Word == "" {
		return e.Problem
	}
	return fmt.Sprintf("%q %s", term.Shorten(e.Word), e.Problem)
}

// Note is something that the reader of a configuration should know and that is
// no error.
type Note struct {
	Key  string
	Text string
	Word string // that it is about, "" where it is not one word's
}

func (n Note) String() string { return n.Key + ": " + n.Text }
