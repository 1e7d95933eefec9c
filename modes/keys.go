// SPDX-License-Identifier: Apache-2.0

package modes

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Key is one key of the configuration: its reference, and a way to its field in a
// [Config] by its path.
type Key struct {
	Path    string   // outbound.excludeCIDRs
	List    bool     // takes any number of words
	Modes   []string // that use it; none means all
	Default string   // as written, a list with commas
	Own     []Own    // defaults of modes that have another
	Doc     string   // what it means, after its choices
	Choices []Choice // the words that it may have, none where they are not few
	Needed  bool     // of a map in a list: without it the entry means nothing
	Items   []Key    // of the maps that the list may hold beside words, which stand for their first key

	index []int // of the field
}

// Own is a mode's own default for a key.
type Own struct{ Mode, Default string }

// Keys are all keys, in the order of the reference. They are made once for all who ask, and
// must not be changed.
func Keys() []Key { return allKeys() }

// allKeys is a constant that takes reflection to write down.
var allKeys = sync.OnceValue(func() []Key {
	const room = 64 // keys: to grow by doubling touches three times the memory
	return slices.Clip(appendKeys(make([]Key, 0, room), reflect.TypeFor[Config](), "", nil))
})

// appendKeys appends the keys of a struct's fields.
func appendKeys(keys []Key, t reflect.Type, prefix string, index []int) []Key {
	tag := make(tag, 0, 8)
	for i := range t.NumField() {
		f := t.Field(i)
		tag = parseTag(tag[:0], f.Tag)
		path := prefix + tag.get("key")
		at := append(slices.Clip(index), i)
		if f.Type.Kind() == reflect.Struct {
			keys = appendKeys(keys, f.Type, path+".", at)
			continue
		}
		k := Key{Path: path, List: f.Type.Kind() == reflect.Slice, Default: tag.get("default"), Choices: parseChoices(tag.get("words")), Needed: tag.get("needed") != "", index: at}
		k.Doc = choicesText(k.Choices) + tag.get("doc")
		if k.List && f.Type.Elem().Kind() == reflect.Struct {
			k.Items = appendKeys(nil, f.Type.Elem(), "", nil)
		}
		if modes := tag.get("modes"); modes != "" {
			k.Modes = strings.Split(modes, ",")
		}
		using := k.Modes
		if len(using) == 0 {
			using = allModes()
		}
		for _, mode := range using {
			if own, ok := tag.lookup(mode); ok {
				k.Own = append(k.Own, Own{mode, own})
			}
		}
		keys = append(keys, k)
	}
	return keys
}

// tag is a field's tag, by names. Each [reflect.StructTag.Lookup] would read it anew, which
// for all keys takes a tenth of a millisecond of every run of weir apply.
type tag []struct{ name, value string }

// parseTag appends what a field's tag says.

func parseTag(out tag, text reflect.StructTag) tag {
	for text != "" {
		name, rest, _ := strings.Cut(strings.TrimLeft(string(text), " "), ":")
		quoted, err := strconv.QuotedPrefix(rest)
		if err != nil {
			panic(fmt.Sprintf("tag %q of a key: %v", rest, err)) // of this package's own types
		}
		value, _ := strconv.Unquote(quoted)
		out = append(out, struct{ name, value string }{name, value})
		text = reflect.StructTag(rest[len(quoted):])
	}
	return out
}

func (t tag) lookup(name string) (string, bool) {
	for _, v := range t {
		if v.name == name {
			return v.value, true
		}
	}
	return "", false
}

func (t tag) get(name string) string {
	value, _ := t.lookup(name)
	return value
}

// DefaultOf is the default that holds in a mode.
func (k Key) DefaultOf(mode string) string {
	if i := slices.IndexFunc(k.Own, func(o Own) bool { return o.Mode == mode }); i >= 0 {
		return k.Own[i].Default
	}
	return k.Default
}

// Defaults are all of them in words, "" where there are none.
func (k Key) Defaults() string {
	words := []string{k.Default}
	if k.Default == "" {
		words = nil
	}
	for _, o := range k.Own {
		words = append(words, o.Mode+": "+o.Default)
	}
	return strings.Join(words, ", ")
}

// Flag is the key's name on a command line: outbound-exclude-cidrs.
func (k Key) Flag() string {
	out := make([]byte, 0, len(k.Path)+8)
	var before byte
	for _, c := range []byte(k.Path) {
		lower := c
		switch {
		case c == '.':
			lower = '-'
		case c >= 'A' && c <= 'Z':
			lower += 'a' - 'A'
			if before >= 'a' && before <= 'z' {
				out = append(out, '-')
			}
		}
		out = append(out, lower)
		before = c
	}
	return string(out)
}

// Set writes words to the key's field: a list takes them all, others the first.
// No words make an empty list: none.
func (k Key) Set(c *Config, words ...string) { k.set(reflect.ValueOf(c).Elem(), words) }

func (k Key) set(of reflect.Value, words []string) {
	field := of.FieldByIndex(k.index)
	switch {
	case len(k.Items) > 0:
		field.Set(reflect.MakeSlice(field.Type(), len(words), len(words)))
		for i, w := range words {
			k.Items[0].set(field.Index(i), []string{w})
		}
	case k.List:
		field.Set(reflect.MakeSlice(field.Type(), len(words), len(words)))
		for i, w := range words {
			field.Index(i).SetString(w)
		}
	case len(words) > 0:
		field.SetString(words[0])
	}
}

// AddItem appends a map, of the words of its keys by their paths, to a list that
// may hold maps.
func (k Key) AddItem(c *Config, words map[string][]string) {
	field := reflect.ValueOf(c).Elem().FieldByIndex(k.index)
	item := reflect.New(field.Type().Elem()).Elem()
	for _, inner := range k.Items {
		if w, written := words[inner.Path]; written {
			inner.set(item, w)
		}
	}
	field.Set(reflect.Append(field, item))
}

// GetItems are the maps of a list that may hold them: the words of the keys that
// were written.
func (k Key) GetItems(c *Config) []map[string][]string {
	field := reflect.ValueOf(c).Elem().FieldByIndex(k.index)
	items := make([]map[string][]string, field.Len())
	for i := range items {
		items[i] = map[string][]string{}
		for _, inner := range k.Items {
			if words, written := inner.get(field.Index(i)); written {
				items[i][inner.Path] = words
			}
		}
	}
	return items
}

// Get is what the field holds, and whether anything was written there.
// Of maps it is the words of their first keys.
func (k Key) Get(c *Config) (words []string, set bool) { return k.get(reflect.ValueOf(c).Elem()) }

func (k Key) get(of reflect.Value) (words []string, set bool) {
	field := of.FieldByIndex(k.index)
	switch {
	case len(k.Items) > 0:
		for i := range field.Len() {
			first, _ := k.Items[0].get(field.Index(i))
			words = append(words, first...)
		}
		return words, !field.IsNil()
	case k.List:
		if plain, ok := field.Interface().([]string); ok {
			return plain, !field.IsNil()
		}
		for i := range field.Len() {
			words = append(words, field.Index(i).String())
		}
		return words, !field.IsNil()
	}
	return []string{field.String()}, field.String() != ""
}

// isSet reports whether anything was written to the key's field.
func (k *Key) isSet(c *Config) bool {
	field := reflect.ValueOf(c).Elem()
	for _, i := range k.index {
		field = field.Field(i)
	}
	return field.Len() > 0 || k.List && !field.IsNil()
}

// UsedBy reports whether the mode uses the key.
func (k Key) UsedBy(mode string) bool {
	return len(k.Modes) == 0 || slices.Contains(k.Modes, mode)
}

// withDefaults is the configuration with what is absent filled in, for keys
// that its mode uses. A list that has no default stays absent, which is as good
// as empty.
func (c Config) withDefaults() Config {
	c.untrackedDefaults()
	for _, k := range allKeys() {
		if !k.UsedBy(c.Mode) || k.isSet(&c) {
			continue
		}
		if word := k.DefaultOf(c.Mode); word != "" {
			k.Set(&c, strings.Split(word, ",")...)
		}
	}
	return c
}
