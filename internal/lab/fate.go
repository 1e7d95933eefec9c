// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/weir-mesh/weir/internal/scratch"
)

// parseFate reads a fate of a conformance table. The packet marks that a table may hold besides are
// not part of what it asks for, and are left out.
func parseFate(text string) (scratch.Fate, error) {
	var f scratch.Fate
	var land []string
	for word := range strings.FieldsSeq(text) {
		key, value, _ := strings.Cut(word, "=")
		switch key {
		case "orig":
			orig, err := netip.ParseAddrPort(value)
			if err != nil {
				return scratch.Fate{}, fmt.Errorf("fate %q: orig: %w", text, err)
			}
			f.Orig = orig
		case "src":
			f.Src = scratch.Source(value)
			if f.Src != scratch.SourceKept && f.Src != scratch.SourceChanged {
				return scratch.Fate{}, fmt.Errorf("fate %q: src: %q (want %s or %s)", text, value, scratch.SourceKept, scratch.SourceChanged)
			}
		case "ct":
			f.CT = value
		case "marks":
		default: // an error's text has several words
			land = append(land, word)
		}
	}
	if f.Land = strings.Join(land, " "); f.Land == "" {
		return scratch.Fate{}, fmt.Errorf("fate %q: where did it land?", text)
	}
	return f, nil
}
