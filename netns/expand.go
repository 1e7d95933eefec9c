// SPDX-License-Identifier: Apache-2.0

//go:build linux

package netns

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrNoMatch is that a pattern of [Expand] matches no file.
var ErrNoMatch = errors.New("matches no namespace")

// IsPattern reports whether a name or path stands for many, as path/filepath.Match has
// it.
func IsPattern(nameOrPath string) bool { return strings.ContainsAny(nameOrPath, "*?[") }

// Expand replaces patterns of names or paths by what they match, as [Open] takes it:
// each namespace once, in the order of the patterns and then of names. What is no
// pattern stays, whether it is there or not. Errors are filepath.ErrBadPattern and
// ErrNoMatch, with the pattern.
func Expand(patterns []string) ([]string, error) {
	type file struct{ dev, ino uint64 }
	seen := map[file]bool{}
	var names []string
	for _, p := range patterns {
		found := []string{p}
		if IsPattern(p) {
			var err error
			if found, err = matching(p); err != nil {
				return nil, err
			}
		}
		for _, name := range found {
			var at unix.Stat_t
			if unix.Stat(Path(name), &at) == nil {
				if seen[file{at.Dev, at.Ino}] {
					continue
				}
				seen[file{at.Dev, at.Ino}] = true
			} // else: to open it will tell
			names = append(names, name)
		}
	}
	return names, nil
}

func matching(pattern string) ([]string, error) {
	path := Path(pattern)
	found, err := filepath.Glob(path)
	if err != nil {
		return nil, fmt.Errorf("%q is not a pattern: %w", pattern, err)
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("%q %w", pattern, ErrNoMatch)
	}
	if path != pattern { // of names
		for i, f := range found {
			found[i] = filepath.Base(f)
		}
	}
	return found, nil
}
