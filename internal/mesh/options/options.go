// SPDX-License-Identifier: Apache-2.0

package options

import (
	"strings"

	"github.com/weir-mesh/weir/internal/parse"
	"github.com/weir-mesh/weir/modes"
)

// Option is an option of which a value may mean nothing.
type Option string

const (
	UserExclusions Option = "exclusions by user"
	InboundUsers   Option = "exclusions by user of what comes in"
	Networks       Option = "virtual networks"
	ResolvConf     Option = "file of the resolvers"
	Family         Option = "family"
	ExcludeCIDRs   Option = "excluded destinations"
	DNSAddress     Option = "address of the DNS server"
	DNSPort        Option = "port of the DNS server"
)

// Problem is a value that means nothing.
type Problem struct {
	Option Option
	Entry  int    // of a list, from 1; 0 where the option is not one
	Text   string // the value, and what was wanted
}

// Split splits a list at its commas. It is empty, not nil, where there is no word: an empty list means
// none.
func Split(list string) []string {
	out := []string{}
	for w := range strings.SplitSeq(list, ",") {
		if w = strings.TrimSpace(w); w != "" {
			out = append(out, w)
		}
	}
	return out
}

// PortWords are words for ports, nil for nil.
func PortWords(list []string) []modes.PortWord {
	if list == nil {
		return nil
	}
	out := make([]modes.PortWord, len(list))
	for i, w := range list {
		out[i] = modes.PortWord(w)
	}
	return out
}

// OnOff is the word of a configuration for yes or no.
func OnOff(yes bool) string {
	if yes {
		return "enabled"
	}
	return "disabled"
}

// includesSome reports whether a list names ports, and not all of them: the meshes' excluded ports count
// only where it does not.
func includesSome(ports []modes.PortWord) bool { return len(ports) > 0 && !isAll(ports) }

func isAll(ports []modes.PortWord) bool { return len(ports) == 1 && parse.IsAll(string(ports[0])) }

// set replaces a word where another one is given.
func set[W ~string](word *W, given W) {
	if given != "" {
		*word = given
	}
}

// setList replaces a list where another one is given, even if it is empty.
func setList[L ~[]W, W any](list *L, given L) {
	if given != nil {
		*list = given
	}
}
