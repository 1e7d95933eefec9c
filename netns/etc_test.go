// SPDX-License-Identifier: Apache-2.0

//go:build linux

package netns

import (
	"strings"
	"testing"
)

func TestNamesAfterALongLine(t *testing.T) {
	names := parseNames([]byte("staff:x:50:" + strings.Repeat("someone,", 100_000) + "\nmesh:x:1337:\n"))
	if names["staff"] != 50 || names["mesh"] != 1337 {
		t.Errorf("read %v", names)
	}
}
