package main

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/weir-mesh/weir/internal/term"
	"github.com/weir-mesh/weir/modes"
)

// configuration is what was written, and where each word stands.
type configuration struct {
	modes.Config
	file     string // as messages name it, "" where there was none
	places   map[string]*keyPlaces
	unread   bool            // the document is none, or no YAML
	doubtful map[string]bool // keys that seem absent because of a problem of the document
}

// keyPlaces is where a key and its words stand.
type keyPlaces struct {
	key   place
	flag  bool // the place is a flag, which names the key
	words []wordPlace
	index map[string][]place // the words', made when first asked for
}

type wordPlace struct {
	word  string
	place place
}

// of is the place of the nth writing of a word, or of the key.
func (k *keyPlaces) of(word string, nth int) place {
	if k.index == nil {
		k.index = make(map[string][]place, len(k.words))
		for _, w := range k.words {
			k.index[w.word] = append(k.index[w.word], w.place)
		}
	}
	if places := k.index[word]; len(places) > 0 {
		return places[min(nth, len(places)-1)]
	}
	return k.key
}

const leastConfiguration = "version: 1, mode: sidecar, proxy: {uids: [1337]}"

func newConfiguration(file string) configuration {
	return configuration{file: file, places: map[string]*keyPlaces{}, doubtful: map[string]bool{}}
}

// parseConfiguration reads one YAML document. name is the file's name for
// messages; "-" reads as "standard input". The error joins everything that is
// wrong with the document itself. What its words say is for [modes.Check] and
// [modes.State]. The configuration holds what could be read all the same.
func parseConfiguration(name string, data []byte) (configuration, error) {
	if name == "-" {
		name = "standard input"
	}
	c := newConfiguration(name)
	d := &document{name: name}
	root, ok := d.read(data)
	c.unread = !ok || root.kind != aMap
	switch {
	case !ok:
	case root.kind == absent:
		d.problemf(place{source: name}, "holds no configuration (the least one is: %s)", leastConfiguration)
	case root.kind != aMap:
		d.problemf(root.place, "is %s (want keys, at least: %s)", root.kind, leastConfiguration)
	default:
		s := newSchema()
		s.mode = modeOf(root)
		c.section(d, s, "", root)
		c.doubt(d.lost...)
	}
	return c, d.err()
}

func modeOf(root node) string {
	for _, p := range root.pairs {
		if p.key == "mode" {
			return p.value.word
		}
	}
	return ""
}

// schema is which keys there are, at which level.
type schema struct {
	mode   string // the document's, "" where it has none
	keys   map[string]modes.Key
	paths  []string            // of all keys, in the order of the reference
	levels map[string][]string // the names in a section; "" is the document
}

func newSchema() *schema {
	s := &schema{keys: map[string]modes.Key{}, levels: map[string][]string{}}
	for _, k := range modes.Keys() {
		s.keys[k.Path] = k
		s.paths = append(s.paths, k.Path)
		section := ""
		for name := range strings.SplitSeq(k.Path, ".") {
			if !slices.Contains(s.levels[section], name) {
				s.levels[section] = append(s.levels[section], name)
			}
			section = join(section, name)
		}
	}
	return s
}

// section reads a map of keys.
func (c *configuration) section(d *document, s *schema, path string, n node) {
	for _, p := range n.pairs {
		full := join(path, p.key)
		if !slices.Contains(s.levels[path], p.key) {
			meant := s.meant(path, p.key)
			d.keyProblem(p.place, full, "", "is no key (want %s)", s.list(path, meant))
			c.doubt(full)
			c.doubt(meant...)
			continue
		}
		c.places[full] = &keyPlaces{key: p.place}
		k, isKey := s.keys[full]
		switch {
		case p.value.kind == absent:
		case isKey:
			c.key(d, k, p)
		case p.value.kind == aMap:
			c.section(d, s, full, p.value)
		default:
			d.keyProblem(p.value.place, full, "", "is %s (want keys: %s)", p.value.kind, strings.Join(s.levels[full], ", "))
			c.doubt(full)
		}
	}
}

// key reads the words of one key.
func (c *configuration) key(d *document, k modes.Key, p pair) {
	places := c.places[k.Path]
	if !k.List {
		if word, ok := d.oneWord(p.value, k.Path); ok {
			places.words = []wordPlace{{word, p.value.place}}
			k.Set(&c.Config, word)
		} else {
			c.doubt(k.Path)
		}
		return
	}
	if len(k.Items) > 0 {
		c.items(d, k, p.value)
		return
	}
	words, ok := d.words(p.value, k.Path)
	if !ok {
		c.doubt(k.Path)
	}
	if !ok && len(words) == 0 {
		return // not the empty list: that means none
	}
	texts := make([]string, len(words))
	places.words = make([]wordPlace, len(words))
	for i, w := range words {
		texts[i] = w.word
		places.words[i] = wordPlace{w.word, w.place}
	}
	k.Set(&c.Config, texts...)
}

// doubt notes that problems with keys may be why they, or what their sections
// lack, seem absent.
func (c configuration) doubt(paths ...string) {
	for _, p := range paths {
		c.doubtful[p] = true
		if section, _, nested := cutLast(p); nested {
			c.doubtful[section] = true
		}
	}
}

// cutLast splits a path before its last key.
func cutLast(path string) (section, key string, nested bool) {
	dot := strings.LastIndexByte(path, '.')
	if dot < 0 {
		return "", path, false
	}
	return path[:dot], path[dot+1:], true
}

// meant are the paths that an unknown key was probably meant to be.
func (s *schema) meant(section, name string) []string {
	var same []string
	for _, p := range s.paths {
		if _, last, _ := cutLast(p); strings.EqualFold(last, name) || strings.EqualFold(p, name) || strings.EqualFold(s.keys[p].Flag(), strings.TrimLeft(name, "-")) {
			same = append(same, p)
		}
	}
	for _, p := range s.levels[""] {
		if section != "" && strings.EqualFold(p, name) && !slices.Contains(same, p) {
			same = append(same, p)
		}
	}
	if here := slices.IndexFunc(same, func(p string) bool { return strings.EqualFold(p, join(section, name)) }); here >= 0 {
		return same[here : here+1]
	}
	if len(same) > 0 {
		return same
	}
	if near := term.Nearest(name, s.levels[section]); near != "" {
		return []string{join(section, near)}
	}
	if near := term.Nearest(name, s.paths); near != "" {
		return []string{near}
	}
	return nil
}

// list is what to write instead of an unknown key: what was meant, or every key
// of the section.
func (s *schema) list(section string, meant []string) string {
	if len(meant) == 0 {
		return "one of: " + strings.Join(s.levels[section], ", ")
	}
	words := make([]string, len(meant))
	for i, p := range meant {
		words[i] = p
		if k, isKey := s.keys[p]; isKey && s.mode != "" && !k.UsedBy(s.mode) {
			words[i] += ", of mode " + strings.Join(k.Modes, " and ")
		}
	}
	return strings.Join(words, " or ")
}

// explain puts the place before each [*modes.ConfigError] that err joins, in the
// order of the places.
func (c configuration) explain(err error) error {
	type written struct{ key, word string }
	seen := map[written]int{}
	var out []*placedError
	for _, e := range parts(err) {
		switch e := e.(type) {
		case *placedError:
			out = append(out, e)
		case *modes.ConfigError:
			w := written{e.Key, e.Word}
			out = append(out, c.placed(e, seen[w]))
			seen[w]++
		default:
			out = append(out, &placedError{err: e})
		}
	}
	slices.SortStableFunc(out, func(a, b *placedError) int {
		return cmp.Or(cmp.Compare(c.rank(a.place), c.rank(b.place)), cmp.Compare(a.place.line, b.place.line), cmp.Compare(a.place.column, b.place.column))
	})
	return joinSome(out)
}

const maxProblems = 100 // that one message tells: a list of 100,000 words may have as many

// joinSome joins errors, the first of them where they are many.
func joinSome[E error](errs []E) error {
	var joined []error
	for _, e := range errs[:min(len(errs), maxProblems)] {
		joined = append(joined, e)
	}
	if more := len(errs) - maxProblems; more > 0 {
		joined = append(joined, fmt.Errorf("and %d more problems", more))
	}
	return errors.Join(joined...)
}

// rank is lowest for places in the file, and highest for none.
func (c configuration) rank(p place) int {
	switch {
	case p.source == "" || p.line == 0 && p.source == c.file:
		return 2
	case p.source == c.file:
		return 0
	}
	return 1
}

// placed is the nth error that says the same.
func (c configuration) placed(e *modes.ConfigError, nth int) *placedError {
	k := c.places[e.Key]
	switch {
	case k == nil:
		return &placedError{place{source: c.file}, e}
	case k.flag:
		return &placedError{k.of(e.Word, nth), unnamed{e}}
	}
	return &placedError{k.of(e.Word, nth), e}
}

// unnamed is an error that does not say its key, for where the place does.
type unnamed struct{ *modes.ConfigError }

func (u unnamed) Error() string { return u.Detail() }

func (u unnamed) Unwrap() error { return u.ConfigError }

// explainNote is the note with its place.
func (c configuration) explainNote(n modes.Note) string {
	k := c.places[n.Key]
	switch {
	case k == nil:
		return place{source: c.file}.before(n.String())
	case k.flag:
		return k.of(n.Word, 0).before(n.Text)
	}
	return k.of(n.Word, 0).before(n.String())
}

// parts are the errors that err joins, each of which is a line of its message.
func parts(err error) []error {
	if err == nil {
		return nil
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	var lines []string
	var out []error
	for _, e := range joined.Unwrap() {
		lines = append(lines, e.Error())
		out = append(out, parts(e)...)
	}
	if strings.Join(lines, "\n") != err.Error() {
		return []error{err} // it says more than they do
	}
	return out
}
