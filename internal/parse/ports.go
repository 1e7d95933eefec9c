// SPDX-License-Identifier: Apache-2.0

package parse

import (
	"cmp"
	"strings"

	"github.com/weir-mesh/weir/rules"
)

const maxPortWord = 64 // bytes: more than a range of the longest services takes

// Ports reads a port, a service's name, or a range of such: 8000-8100,
// 8000:8100, and open at one end 8000: or :8100. A range may hold port 0, which by
// itself is a mistake.
func Ports(word string) (lo, hi rules.Port, ok bool) {
	if len(word) > maxPortWord {
		return 0, 0, false
	}
	if p, ok := portOrService(word); ok {
		return p, p, true
	}
	from, to, isRange := strings.Cut(word, ":")
	if isRange && (from == "") != (to == "") {
		from, to = cmp.Or(from, "0"), cmp.Or(to, "65535")
	} else if !isRange {
		from, to, isRange = cutRange(word)
	}
	lo, okLo := rangeEnd(strings.TrimSpace(from))
	hi, okHi := rangeEnd(strings.TrimSpace(to))
	return lo, hi, isRange && okLo && okHi
}

// cutRange splits at the first dash that both sides are ports of: a service's name
// may hold others.
func cutRange(word string) (from, to string, ok bool) {
	for at := range len(word) {
		if word[at] != '-' {
			continue
		}
		from, to := word[:at], word[at+1:]
		_, okFrom := rangeEnd(strings.TrimSpace(from))
		_, okTo := rangeEnd(strings.TrimSpace(to))
		if okFrom && okTo {
			return from, to, true
		}
	}
	return "", "", false
}

func portOrService(word string) (rules.Port, bool) {
	if p, ok := Port(word); ok {
		return p, true
	}
	return servicePort(word)
}

// rangeEnd is portOrService that takes port 0 too.
func rangeEnd(word string) (rules.Port, bool) {
	if word == "0" {
		return 0, true
	}
	return portOrService(word)
}

// Port reads a port number: 1-65535.
func Port(word string) (rules.Port, bool) {
	n, ok := Number(word, 16, false)
	return rules.Port(n), ok && n > 0
}

// WithoutPorts are the words of a list of ports less those that another list
// holds. Words that are not ports stay, for their reader to report.
func WithoutPorts[W ~string](list, minus []W) []W {
	out := []W{}
	for _, w := range list {
		keep := []W{w}
		for _, m := range minus {
			keep = subtract(keep, m)
		}
		out = append(out, keep...)
	}
	return out
}

// portRange is the range that a word stands for.
func portRange(word string) (rules.Range, bool) {
	lo, hi, ok := Ports(word)
	return rules.RangeBetween(lo, hi), ok && lo <= hi
}

// portWord is a range as Ports reads it.
func portWord(p rules.Range) string {
	if p == rules.RangeOf(rules.Port(0)) {
		return "0-0"
	}
	return rules.TCPDport.Type().FormatRange(p)
}

func subtract[W ~string](words []W, minus W) []W {
	m, ok := portRange(string(minus))
	if !ok {
		return words
	}
	var out []W
	for _, w := range words {
		p, ok := portRange(string(w))
		if !ok || m.Hi < p.Lo || p.Hi < m.Lo {
			out = append(out, w)
			continue
		}
		if p.Lo < m.Lo {
			out = append(out, W(portWord(rules.Range{Lo: p.Lo, Hi: m.Lo.Before()})))
		}
		if after, more := m.After(); more && after <= p.Hi {
			out = append(out, W(portWord(rules.Range{Lo: after, Hi: p.Hi})))
		}
	}
	return out
}
