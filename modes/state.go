// SPDX-License-Identifier: Apache-2.0

package modes

import (
	"errors"
	"slices"
	"strings"

	"github.com/weir-mesh/weir/internal/problems"
	"github.com/weir-mesh/weir/internal/reserved"
	"github.com/weir-mesh/weir/internal/term"
	"github.com/weir-mesh/weir/rules"
)

// State is what a configuration asks of a namespace in that environment. The
// error joins a [*ConfigError] for every problem, which [Problems] lists; the State is
// then the zero one. The notes are for people to read, whether there is an error or
// not. A mode that captures nothing makes the zero State too, which is not a state to
// apply: it is what a remove leaves.
func State(c Config, env Environment) (rules.State, []Note, error) {
	r := &reader{env: env}
	state := r.read(c)
	if len(r.problems) > 0 {
		return rules.State{}, r.notes, problems.Join(withUnread(r.problems, env)...)
	}
	want := state()
	return want, r.notes, want.Check()
}

// Check is those problems of [State] that can be told without an environment: every
// name of a user or group is taken to be known. It is nil where there is none.
func Check(c Config) error {
	r := &reader{anyName: true, anyHost: true}
	r.read(c)
	return problems.Join(r.problems...)
}

// CheckNames is [Check] in an environment of which only the Users and Groups, and why
// they are Unread, are known.
func CheckNames(c Config, env Environment) error {
	r := &reader{env: env, anyHost: true}
	r.read(c)
	return problems.Join(withUnread(r.problems, env)...)
}

// read checks the configuration. What it returns makes the state, if there was
// no problem.
func (r *reader) read(c Config) func() rules.State {
	r.mode = c.Mode
	if !r.frame(c) {
		r.readWithoutMode(c)
		return func() rules.State { return rules.State{} }
	}
	full := c.withDefaults()
	r.noteShared(c, full)
	return r.readMode(c, full)
}

// readMode checks what depends on the mode: of a configuration as it was written, and with its
// defaults.
func (r *reader) readMode(c, full Config) func() rules.State {
	switch c.Mode {
	case ModeSidecar:
		s := r.sidecar(full)
		r.compareMarks(c, s)
		r.noteUnused(c, s)
		r.noteUnusedDNS(c, s.dns.capture != dnsNone)
		return s.state
	case ModeAmbientPod:
		p := r.ambientPod(full)
		r.noteUnusedDNS(c, p.dns.capture != dnsNone)
		return p.state
	case ModeAmbientHost:
		return r.ambientHost(full).state
	case ModeEgress:
		return r.egress(full).state
	}
	return func() rules.State { return rules.State{} }
}

// readWithoutMode reports the words that are wrong whatever the mode is: those that
// are in the likeliest one, with the choices of all.
func (r *reader) readWithoutMode(c Config) {
	c.Mode = likelyMode(c)
	likely := &reader{env: r.env, anyName: r.anyName, anyHost: r.anyHost}
	likely.readMode(c, c.withDefaults())
	for _, err := range likely.problems {
		var config *ConfigError
		if errors.As(err, &config) && config.Word != "" && !config.Missing {
			r.problems = append(r.problems, err)
		}
	}
}

// likelyMode is the mode that uses most of the keys that were written.
func likelyMode(c Config) string {
	best, most := ModeSidecar, 0
	for _, mode := range allModes() {
		used := 0
		for _, k := range allKeys() {
			if len(k.Modes) > 0 && k.UsedBy(mode) && k.isSet(&c) {
				used++
			}
		}
		if used > most {
			best, most = mode, used
		}
	}
	return best
}

// TableName is the configured table, or the default.
func (c Config) TableName() string {
	if c.Table != "" {
		return c.Table
	}
	return keyOf("table").DefaultOf(c.Mode)
}

// DefaultTable is the table that is used where none is named.
const DefaultTable = "weir"

// ProxyUIDs is the set that holds the proxy's users, in the table of a mode that
// knows its proxy by them.
const ProxyUIDs = "proxy_uids"

// frame checks what does not depend on the mode: the version, the table, the
// mode itself, and that it uses every key that was written. It reports whether
// there is such a mode.
func (r *reader) frame(c Config) bool {
	if c.Version != "" && c.Version != "1" {
		r.problem("version", c.Version, "is not known (want 1)")
	}
	r.tableName(c.Table)
	if c.Mode == "" {
		r.problem("mode", "", "is missing (want %s)", oneOf(allModes()))
		return false
	}
	if !slices.Contains(allModes(), c.Mode) {
		hint := "want " + oneOf(allModes())
		if near := term.Nearest(c.Mode, allModes()); near != "" {
			hint = "did you mean " + near + "?"
		}
		r.problem("mode", c.Mode, "is not a mode (%s)", hint)
		return false
	}
	for _, k := range allKeys() {
		if !k.UsedBy(c.Mode) && k.isSet(&c) {
			r.problem(k.Path, "", "is not used by mode %s (it is by %s)", c.Mode, strings.Join(k.Modes, ", "))
		}
	}
	return true
}

// oneOf is a list in words: a, b or c.
func oneOf(words []string) string {
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

func allModes() []string {
	return []string{ModeSidecar, ModeAmbientPod, ModeAmbientHost, ModeEgress, ModeNone}
}

const maxTableName = 31

func (r *reader) tableName(name string) {
	switch {
	case name == "":
	case !isTableName(name):
		r.problem("table", name, "is not a table name (want a letter, then at most %d letters, digits, '_' or '-')", maxTableName-1)
	case reserved.TableUse(name) != "":
		r.problem("table", name, "is taken: weir uses %s", reserved.TableUse(name))
	}
}

func isTableName(name string) bool {
	letter := func(c rune) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }
	for i, c := range name {
		if !letter(c) && (i == 0 || !(c >= '0' && c <= '9' || c == '_' || c == '-')) {
			return false
		}
	}
	return name != "" && len(name) <= maxTableName
}
