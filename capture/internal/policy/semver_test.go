// SPDX-License-Identifier: Apache-2.0

//go:build linux

package policy

import "testing"

func TestOlderThan(t *testing.T) {
	ordered := []string{
		"v0.0.0-20260101000000-aaaaaaaaaaaa", "v0.9.10", "v1.0.0-alpha", "v1.0.0-alpha.1", "v1.0.0-alpha.beta", "v1.0.0-beta.2",
		"v1.0.0-beta.11", "v1.0.0-rc.1", "v1.0.0", "v1.0.10", "v1.10.0", "v9.9.9", "v10.0.0",
	}
	for i, a := range ordered {
		for k, b := range ordered {
			if got := olderThan(a, b); got != (i < k) {
				t.Errorf("%s older than %s: %v", a, b, got)
			}
		}
	}
	for _, no := range []string{"", "dev", "test", "1.2.3", "v1.2", "v1.2.x", "v1.2.3.4", "v-1.2.3"} {
		if olderThan(no, "v9.9.9") || olderThan("v0.0.1", no) {
			t.Errorf("%q is compared", no)
		}
	}
	if olderThan("v1.0.0+a", "v1.0.0+b") {
		t.Error("builds of one version are ordered")
	}
}
