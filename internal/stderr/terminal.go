// SPDX-License-Identifier: Apache-2.0

//go:build linux

package stderr

import (
	"io"

	"github.com/weir-mesh/weir/internal/escape"
	"golang.org/x/sys/unix"
)

// IsTerminal reports whether what is written there, escaped or not, appears on a
// terminal.
func IsTerminal(w io.Writer) bool {
	file, ok := escape.Unwrap(w).(interface{ Fd() uintptr })
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(file.Fd()), unix.TCGETS)
	return err == nil
}
