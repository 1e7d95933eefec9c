// SPDX-License-Identifier: Apache-2.0

package man

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestWrite(t *testing.T) {
	weir := Command{Name: "weir", Usage: "capture", Description: "What it is.\n.not a request", Commands: []Command{
		{Name: "apply", Usage: "make it so", Arguments: "[FILE]", Description: "Example: weir apply",
			Options: []Option{{Names: []string{"--config", "-f"}, Placeholder: "FILE", Usage: "read FILE, a\\b"}}},
		{Name: "pod", Usage: "pods", Commands: []Command{{Name: "list", Usage: "list them"}}},
	}}
	dir := t.TempDir()
	names, err := Write(weir, Source{"v1.2.3", time.Unix(0, 0)}, dir)
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"weir.8", "weir-apply.8", "weir-pod.8", "weir-pod-list.8"}; !slices.Equal(names, want) {
		t.Fatalf("pages %q, want %q", names, want)
	}
	for name, lines := range map[string][]string{
		"weir.8":       {`.TH WEIR 8 1970-01-01 "weir v1.2.3" "Weir"`, `\&.not a request`, `.BR weir\-apply (8)`},
		"weir-apply.8": {`weir\-apply \- make it so`, `.B weir apply [OPTIONS] [FILE]`, `\fB\-\-config\fR, \fB\-f\fR \fIFILE\fR`, `read FILE, a\eb`},
		"weir-pod.8":   {`.B weir pod COMMAND`, `.BR weir\-pod\-list (8)`},
	} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range lines {
			if !slices.Contains(strings.Split(string(text), "\n"), line) {
				t.Errorf("%s has no line %q:\n%s", name, line, text)
			}
		}
	}
}
