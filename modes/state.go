package modes

import (
	"errors"
	"slices"
	"strings"

	"github.com/weir-mesh/weir/rules"
)

// State is what a configuration asks of a namespace in that environment. The
// error joins a [ConfigError] for every problem; the notes are for the reader.
func State(c Config, env Environment) (rules.State, []Note, error) {
	r := &reader{env: env}
	r.frame(c)
	if len(r.problems) > 0 {
		return rules.State{}, nil, errors.Join(r.problems...)
	}
	c = c.withDefaults()
	var state rules.State
	switch c.Mode {
	case ModeSidecar:
		s := r.sidecar(c)
		if len(r.problems) == 0 {
			state = s.state()
		}
	}
	if len(r.problems) > 0 {
		return rules.State{}, r.notes, errors.Join(r.problems...)
	}
	return state, r.notes, state.Check()
}

// TableName is the configured table, or the default.
func (c Config) TableName() string {
	if c.Table != "" {
		return c.Table
	}
	return DefaultTable
}

// DefaultTable is the table that is used where none is named.
const DefaultTable = "weir"

// frame checks what does not depend on the mode: the version, the mode itself,
// and that it uses every key that was written.
func (r *reader) frame(c Config) {
	if c.Version != "" && c.Version != "1" {
		r.problem("version", c.Version, "is not known (want 1)")
	}
	if c.Table != "" && !isTableName(c.Table) {
		r.problem("table", c.Table, "is no table name (want a letter, then at most 30 letters, digits, '_' or '-')")
	}
	if c.Mode == "" {
		r.problem("mode", "", "is missing (want %s)", strings.Join(allModes(), " or "))
		return
	}
	if !slices.Contains(allModes(), c.Mode) {
		hint := Nearest(c.Mode, allModes())
		if hint == "" {
			hint = strings.Join(allModes(), " or ")
		}
		r.problem("mode", c.Mode, "is not a mode (want %s)", hint)
		return
	}
	for _, k := range Keys() {
		if _, set := k.Get(&c); set && !k.UsedBy(c.Mode) {
			r.problem(k.Path, "", "is not used by mode %s (it is by %s)", c.Mode, strings.Join(k.Modes, ", "))
		}
	}
}

func allModes() []string { return []string{ModeSidecar, ModeNone} }

const maxTableName = 31

func isTableName(name string) bool {
	letter := func(c rune) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }
	for i, c := range name {
		if !letter(c) && (i == 0 || !(c >= '0' && c <= '9' || c == '_' || c == '-')) {
			return false
		}
	}
	return len(name) > 0 && len(name) <= maxTableName && !strings.HasSuffix(name, "-next") && !strings.HasSuffix(name, "-lock")
}
