// SPDX-License-Identifier: Apache-2.0

//go:build linux

package integration

import (
	"fmt"
	"strings"
	"testing"
)

// TestSyncManyPods: the pods of a large node fit, by standard input and by file.
func TestSyncManyPods(t *testing.T) {
	t.Parallel()
	c := hostCLI(t)
	const pods = 100_000
	var b strings.Builder
	for i := range pods {
		fmt.Fprintf(&b, "%08x-0a1b-0a1b-0a1b-0a1b2c3d4e5f 10.%d.%d.%d\n", i, i>>16, i>>8&255, i&255)
	}
	text := b.String()
	if len(text) <= 4<<20 {
		t.Fatalf("the input has %d bytes alone", len(text))
	}
	c.feed(text, "ambient", "host", "pods", "sync", "-f", "-").want(t, 0).prints(t, fmt.Sprintf("%d added, 0 moved, 0 deleted", pods))
	c.feed(text, "ambient", "host", "pods", "sync", "-f", "-").want(t, 0).prints(t, "0 added, 0 moved, 0 deleted")
	if got := strings.Count(c.listed(), "\n"); got != pods {
		t.Errorf("%d pods are listed", got)
	}
	c.feed(strings.Repeat("# a comment\n", 4<<20), "ambient", "host", "pods", "sync", "-f", "-").want(t, 2).says(t, "is longer than 32 MiB")
}
