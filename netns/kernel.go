// SPDX-License-Identifier: Apache-2.0

//go:build linux

package netns

import (
	"strconv"
	"strings"

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
	first, rest, _ := strings.Cut(release, ".")
	if end := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' }); end >= 0 {
		rest = rest[:end]
	}
	haveMajor, majorErr := strconv.Atoi(first)
	haveMinor, minorErr := strconv.Atoi(rest)
	return majorErr == nil && minorErr == nil && (haveMajor > major || haveMajor == major && haveMinor >= minor)
}
