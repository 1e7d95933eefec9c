// SPDX-License-Identifier: Apache-2.0

//go:build linux

package netns

import "testing"

func TestKernelSince(t *testing.T) {
	for _, tt := range []struct {
		release string
		want    bool
	}{{"5.7.0", true}, {"5.10.0-28-amd64", true}, {"6.1", true}, {"5.6.19", false}, {"4.19.0", false}, {"", false}, {"unknown", false}} {
		if got := KernelSince(tt.release, 5, 7); got != tt.want {
			t.Errorf("%q since 5.7: %v", tt.release, got)
		}
	}
}
