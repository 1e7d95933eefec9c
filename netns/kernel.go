// SPDX-License-Identifier: Apache-2.0

//go:build linux

package netns

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// KernelRelease is the kernel's release as uname(2) has it, "" where it does not tell.
func KernelRelease() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Release[:])
}

// KernelSince reports whether a release is of that version or a later one; false where
// it does not begin with a version.
func KernelSince(release string, major, minor int) bool {
	var haveMajor, haveMinor int
	_, err := fmt.Sscanf(release, "%d.%d", &haveMajor, &haveMinor)
	return err == nil && (haveMajor > major || haveMajor == major && haveMinor >= minor)
}
