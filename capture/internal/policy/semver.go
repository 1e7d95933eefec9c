// SPDX-License-Identifier: Apache-2.0

//go:build linux

package policy

import (
	"cmp"
	"strconv"
	"strings"
)

// olderThan compares versions as semver.org orders them; false where one
// is not a version.
func olderThan(a, b string) bool {
	x, okX := parseVersion(a)
	y, okY := parseVersion(b)
	return okX && okY && x.compare(y) < 0
}

// semver is MAJOR.MINOR.PATCH and, of a version before that, what follows a dash.
type semver struct {
	numbers [3]uint64
	before  []string
}

// parseVersion reads v1.2.3 and v1.2.3-rc.1+build.
func parseVersion(text string) (v semver, ok bool) {
	text, ok = strings.CutPrefix(text, "v")
	text, _, _ = strings.Cut(text, "+")
	text, before, isBefore := strings.Cut(text, "-")
	if isBefore {
		v.before = strings.Split(before, ".")
	}
	words := strings.Split(text, ".")
	if !ok || len(words) != len(v.numbers) {
		return v, false
	}
	for i, w := range words {
		n, err := strconv.ParseUint(w, 10, 64)
		if err != nil {
			return v, false
		}
		v.numbers[i] = n
	}
	return v, true
}

func (v semver) compare(o semver) int {
	for i := range v.numbers {
		if c := cmp.Compare(v.numbers[i], o.numbers[i]); c != 0 {
			return c
		}
	}
	if len(v.before) == 0 || len(o.before) == 0 {
		return cmp.Compare(len(o.before), len(v.before)) // one that has none comes after
	}
	for i := range min(len(v.before), len(o.before)) {
		if c := compareWord(v.before[i], o.before[i]); c != 0 {
			return c
		}
	}
	return cmp.Compare(len(v.before), len(o.before))
}

// compareWord orders numbers as such, and before words.
func compareWord(a, b string) int {
	n, errA := strconv.ParseUint(a, 10, 64)
	m, errB := strconv.ParseUint(b, 10, 64)
	switch {
	case errA == nil && errB == nil:
		return cmp.Compare(n, m)
	case errA == nil:
		return -1
	case errB == nil:
		return 1
	}
	return strings.Compare(a, b)
}

// Newer reports whether a version is one after another, as semver.org orders them; false where one is not a
// version.
func Newer(version, than string) bool { return olderThan(than, version) }
