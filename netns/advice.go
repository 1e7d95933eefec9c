//go:build linux

package netns

import (
	"errors"
	"io/fs"
)

// Advice says, as a text in brackets to append to a message, which privilege a
// failure to reach a namespace may lack; "" where it was none of a permission.
func Advice(err error) string {
	if errors.Is(err, fs.ErrPermission) {
		return " (another user's process takes CAP_SYS_PTRACE, entering a namespace CAP_SYS_ADMIN)"
	}
	return ""
}
