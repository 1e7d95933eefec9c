// SPDX-License-Identifier: Apache-2.0

package config

import (
	"slices"
	"strings"
)

// A list of ten thousand prefixes, a line each, takes the YAML library longer than
// all the rest of an apply takes. Such lines can be read one way only: but for the
// first and the last of them, which show that there is a list, they are read here.

const leastLong = 64 // lines that are worth it

// longList is what was taken out of a document: the words of a list between two
// that stayed.
type longList struct {
	first, last int // lines
	column      int // of the words
	words       []string
	used        bool // the list was found
}

// cutLongLists takes the lists of plain words out of a document and leaves empty
// lines in their place.
func cutLongLists(text string) (string, []*longList) {
	if strings.Count(text, "\n") < leastLong {
		return text, nil
	}
	var lists []*longList
	var run longList
	var short strings.Builder
	written, start := 0, 0 // bytes of the text: copied, and before the present line
	end := func(next int) {
		if len(run.words) >= leastLong {
			list := run
			list.last = next - 1
			list.words = run.words[1 : len(run.words)-1]
			lists = append(lists, &list)
		}
		run = longList{}
	}
	number := 0
	for line := range strings.Lines(text) {
		number++
		column, word := listedWord(line)
		if word == "" || len(run.words) > 0 && column != run.column {
			end(number)
		}
		if word != "" {
			if len(run.words) == 0 {
				run.first, run.column = number, column
			}
			run.words = append(run.words, word)
		}
	}
	end(number + 1)
	if len(lists) == 0 {
		return text, nil
	}
	number, at := 0, 0
	for line := range strings.Lines(text) {
		number++
		if at < len(lists) && number > lists[at].first && number < lists[at].last {
			short.WriteString(text[written:start])
			short.WriteByte('\n')
			written = start + len(line)
		}
		start += len(line)
		if at < len(lists) && number == lists[at].last {
			at++
		}
	}
	short.WriteString(text[written:])
	return short.String(), lists
}

// listedWord is the word of a line that lists it and nothing else, and its column;
// "" for any other line. It has no letter or sign that YAML may take for more than
// a word.
func listedWord(line string) (column int, word string) {
	rest := strings.TrimLeft(line, " ")
	word, isEntry := strings.CutPrefix(rest, "- ")
	word = strings.TrimRight(word, " \n")
	if !isEntry || word == "" || word[len(word)-1] == ':' || strings.IndexByte("0123456789abcdefABCDEF:", word[0]) < 0 {
		return 0, ""
	}
	for i := range len(word) {
		if strings.IndexByte("0123456789abcdefABCDEF.:/-", word[i]) < 0 {
			return 0, ""
		}
	}
	return len(line) - len(rest) + len("- ") + 1, word
}

// putBack completes a list by what was taken out of it.
func (d *document) putBack(items []node) []node {
	if len(d.long) == 0 {
		return items
	}
	var whole []node
	for i, item := range items {
		whole = append(whole, item)
		l := d.long[item.place.Line]
		if l == nil || i+1 == len(items) || item.place != d.at(l.first, l.column) || items[i+1].place != d.at(l.last, l.column) {
			continue
		}
		l.used = true
		whole = slices.Grow(whole, len(l.words)+len(items)-i)
		for j, w := range l.words {
			whole = append(whole, node{place: d.at(l.first+1+j, l.column), kind: oneWord, word: w})
		}
	}
	return whole
}

// allPutBack reports whether every list was found again.
func (d *document) allPutBack() bool {
	for _, l := range d.long {
		if !l.used {
			return false
		}
	}
	return true
}
