// SPDX-License-Identifier: Apache-2.0

//go:build linux

package sight

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/weir-mesh/weir/modes"
)

// TestIstioMarksAreTheDefaultsOfModes: modes capture with the marks and routing tables
// that istio's own rules use, so that what either leaves behind is told by them.
func TestIstioMarksAreTheDefaultsOfModes(t *testing.T) {
	defaults := map[string]modes.Key{}
	for _, k := range modes.Keys() {
		defaults[k.Path] = k
	}
	istio := engines()[slices.IndexFunc(engines(), func(e engine) bool { return e.name == "istio" })]
	modesOfMarks := []string{modes.ModeSidecar, modes.ModeAmbientPod}
	if len(istio.marks) != len(modesOfMarks) {
		t.Fatalf("istio has the policy rules %v", istio.marks)
	}
	for i, mode := range modesOfMarks {
		mark, _, _ := strings.Cut(defaults["routing.mark"].DefaultOf(mode), "/")
		table := defaults["routing.table"].DefaultOf(mode)
		if got := istio.marks[i]; fmt.Sprintf("%#x", uint32(got.Mark)) != mark || fmt.Sprint(got.Table) != table {
			t.Errorf("%s looks marks %s up in table %s, and istio %#x in %d", mode, mark, table, uint32(got.Mark), got.Table)
		}
	}
}
