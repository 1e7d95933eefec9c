// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestLedger: what is noted is known until the sandbox has gone, and nothing else is.
func TestLedger(t *testing.T) {
	l := Ledger(filepath.Join(t.TempDir(), "written"))
	if l.Wrote("a", "1") {
		t.Error("known before it was noted")
	}
	for _, hash := range []string{"1", "2"} {
		if err := l.Note("a", hash); err != nil {
			t.Fatal(err)
		}
	}
	if l.Wrote("a", "1") || !l.Wrote("a", "2") || l.Wrote("b", "2") || l.Wrote("a", "") {
		t.Error("what was written last alone is known")
	}
	for _, name := range []string{"../a", ".a", "a/b", strings.Repeat("a", 129)} {
		if err := l.Note(name, "1"); err == nil || l.Wrote(name, "1") {
			t.Errorf("%q is a sandbox", name)
		}
	}
	for range 2 {
		if err := errors.Join(l.Note("goes", "1"), l.Forget("goes"), l.Forget("goes"), Ledger("").Note("a", "1"), Ledger("").Forget("a")); err != nil || l.Wrote("goes", "1") {
			t.Errorf("a sandbox that goes: %v", err)
		}
	}
	if err := l.Note("young", "1"); err != nil {
		t.Fatal(err)
	}
	if err := l.Note("there", "1"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a", "there"} {
		old := time.Now().Add(-time.Hour)
		if err := os.Chtimes(filepath.Join(string(l), name), old, old); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Prune(map[string]bool{"there": true}); err != nil {
		t.Fatal(err)
	}
	if l.Wrote("a", "2") || !l.Wrote("young", "1") || !l.Wrote("there", "1") {
		t.Error("another one was pruned than the old one that has gone")
	}
}
