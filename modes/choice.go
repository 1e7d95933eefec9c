// SPDX-License-Identifier: Apache-2.0

package modes

import (
	"slices"
	"strings"
)

// Choice is one of the few words that a key may have.
type Choice struct {
	Word  string
	Modes []string // that allow it; none means every mode that uses the key
	Doc   string   // what it means, "" where the word says it
}

// text is the choice as the key's documentation has it.
func (c Choice) text() string {
	var remarks []string
	if len(c.Modes) > 0 {
		remarks = append(remarks, strings.Join(c.Modes, " and ")+" only")
	}
	if c.Doc != "" {
		remarks = append(remarks, c.Doc)
	}
	if len(remarks) == 0 {
		return c.Word
	}
	return c.Word + " (" + strings.Join(remarks, "; ") + ")"
}

// parseChoices reads a tag such as "redirect | tproxy [sidecar] why | none".
func parseChoices(tag string) []Choice {
	if tag == "" {
		return nil
	}
	var out []Choice
	for part := range strings.SplitSeq(tag, " | ") {
		word, rest, _ := strings.Cut(part, " ")
		c := Choice{Word: word, Doc: rest}
		if inside, isList := strings.CutPrefix(rest, "["); isList {
			list, doc, _ := strings.Cut(inside, "]")
			c.Modes, c.Doc = strings.Split(list, ","), strings.TrimSpace(doc)
		}
		out = append(out, c)
	}
	return out
}

// choicesText are the choices as the key's documentation begins with them.
func choicesText(choices []Choice) string {
	texts := make([]string, len(choices))
	for i, c := range choices {
		texts[i] = c.text()
	}
	return strings.Join(texts, " | ")
}

// ChoicesIn are the words that a mode allows for the key, nil where they are not few.
// For the mode "" they are those of every mode.
func (k Key) ChoicesIn(mode string) []string {
	var words []string
	for _, c := range k.Choices {
		if mode == "" || len(c.Modes) == 0 || slices.Contains(c.Modes, mode) {
			words = append(words, c.Word)
		}
	}
	return words
}

// keyOf is the key of a path, which may lead into the maps of a list:
// interfaces.reroute.exclusions.
func keyOf(path string) Key {
	for _, k := range allKeys() {
		if k.Path == path {
			return k
		}
		for _, item := range k.Items {
			if k.Path+"."+item.Path == path {
				return item
			}
		}
	}
	return Key{}
}
