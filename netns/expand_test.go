// SPDX-License-Identifier: Apache-2.0

//go:build linux

package netns

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestExpand(t *testing.T) {
	folder := t.TempDir()
	for _, name := range []string{"pod-b", "pod-a", "other"} {
		if err := os.WriteFile(filepath.Join(folder, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("pod-a", filepath.Join(folder, "pod-z")); err != nil {
		t.Fatal(err)
	}
	in := func(names ...string) []string {
		for i, n := range names {
			names[i] = filepath.Join(folder, n)
		}
		return names
	}
	for _, tt := range []struct {
		why            string
		patterns, want []string
		err            error
	}{
		{"a pattern, in the order of names, each namespace once", in("pod-*"), in("pod-a", "pod-b"), nil},
		{"what is named and matched is there once", in("pod-b", "*"), in("pod-b", "other", "pod-a"), nil},
		{"what is not there stays, for its opening to tell", in("nosuch"), in("nosuch"), nil},
		{"a pattern that matches nothing", in("x*"), nil, ErrNoMatch},
		{"no pattern", in("["), nil, filepath.ErrBadPattern},
	} {
		got, err := Expand(tt.patterns)
		if !slices.Equal(got, tt.want) || !errors.Is(err, tt.err) {
			t.Errorf("%s: %v, %v; want %v, %v", tt.why, got, err, tt.want, tt.err)
		}
	}
}
