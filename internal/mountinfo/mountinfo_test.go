// SPDX-License-Identifier: Apache-2.0

package mountinfo

import (
	"reflect"
	"testing"
)

func TestParse(t *testing.T) {
	for _, tt := range []struct {
		why, text string
		want      []Mount
	}{
		{"nothing", "", nil},
		{"optional fields stand before the separator", "31 23 0:27 / /sys/fs/cgroup/unified rw shared:9 master:1 - cgroup2 cgroup2 rw,nsdelegate\n",
			[]Mount{{31, 0, 27, "/", "/sys/fs/cgroup/unified", "cgroup2", []string{"rw", "nsdelegate"}}}},
		{"the last line has no end", "30 23 8:1 /a /b rw - ext4 /dev/sda1 rw", []Mount{{30, 8, 1, "/a", "/b", "ext4", []string{"rw"}}}},
		{"blanks and backslashes are escaped", `31 23 0:27 / /mnt/a\040b\134c rw - cgroup2 none rw`, []Mount{{31, 0, 27, "/", `/mnt/a b\c`, "cgroup2", []string{"rw"}}}},
		{"what is not an escape stays", `31 23 0:27 / /mnt/a\9b\ rw - tmpfs none rw`, []Mount{{31, 0, 27, "/", `/mnt/a\9b\`, "tmpfs", []string{"rw"}}}},
		{"lines that are none", "cgroup2 - cgroup2\n - \n\nx 23 0:27 / /a rw - tmpfs none rw\n31 23 0 / /a rw - tmpfs none rw\n", nil},
	} {
		if got := Parse([]byte(tt.text)); !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: %+v, want %+v", tt.why, got, tt.want)
		}
	}
}
