// SPDX-License-Identifier: Apache-2.0

//go:build linux

package netns

import "testing"

func TestCgroup2Mount(t *testing.T) {
	for _, tt := range []struct{ why, text, want string }{
		{"none", "", ""},
		{"cgroup v1 alone", "30 23 0:26 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n", ""},
		{"beside cgroup v1", "30 23 0:26 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n31 23 0:27 / /sys/fs/cgroup/unified rw shared:9 master:1 - cgroup2 cgroup2 rw\n", "/sys/fs/cgroup/unified"},
	} {
		if got := cgroup2Mount([]byte(tt.text)); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.why, got, tt.want)
		}
	}
}
