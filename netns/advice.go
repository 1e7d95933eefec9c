// SPDX-License-Identifier: Apache-2.0

//go:build linux

package netns

import (
	"errors"
	"fmt"
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

// WithAdvice appends [Advice] to an error of reaching a namespace, a process or its
// files. That CAP_NET_ADMIN is missing is another matter, and stays as it is.
func WithAdvice(err error) error {
	if advice := Advice(err); advice != "" && !errors.Is(err, ErrNotPermitted) {
		return fmt.Errorf("%w%s", err, advice)
	}
	return err
}
