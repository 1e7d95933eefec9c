// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/weir-mesh/weir/modes"
)

// Format is the keys of a configuration that were set, as a document that [Parse]
// reads to an equal configuration.
func Format(c modes.Config) ([]byte, error) {
	var document yaml.MapSlice
	for _, k := range modes.Keys() {
		words, set := k.Get(&c)
		if !set {
			continue
		}
		var value any = words
		switch {
		case len(k.Items) > 0:
			value = printedItems(k, &c)
		case !k.List:
			value = words[0]
		}
		document = insert(document, strings.Split(k.Path, "."), value)
	}
	text, err := yaml.MarshalWithOptions(document, yaml.Indent(2), yaml.IndentSequence(true))
	if err != nil {
		return nil, fmt.Errorf("write the configuration as YAML: %w", err)
	}
	return text, nil
}

// printedItems are the entries of a list that may hold maps: a word where it says
// all.
func printedItems(k modes.Key, c *modes.Config) []any {
	out := []any{}
	for _, words := range k.GetItems(c) {
		var item yaml.MapSlice
		for _, inner := range k.Items {
			if w, written := words[inner.Path]; written {
				var value any = w
				if !inner.List {
					value = w[0]
				}
				item = append(item, yaml.MapItem{Key: inner.Path, Value: value})
			}
		}
		if first := words[k.Items[0].Path]; len(item) == 1 && len(first) == 1 {
			out = append(out, first[0])
		} else {
			out = append(out, item)
		}
	}
	return out
}

// insert puts a value at a path of maps, which keep the order of insertion.
func insert(m yaml.MapSlice, path []string, value any) yaml.MapSlice {
	if len(path) == 1 {
		return append(m, yaml.MapItem{Key: path[0], Value: value})
	}
	at := slices.IndexFunc(m, func(i yaml.MapItem) bool { return i.Key == path[0] })
	if at < 0 {
		at, m = len(m), append(m, yaml.MapItem{Key: path[0], Value: yaml.MapSlice{}})
	}
	inner, _ := m[at].Value.(yaml.MapSlice)
	m[at].Value = insert(inner, path[1:], value)
	return m
}
