// SPDX-License-Identifier: Apache-2.0

//go:build linux

package netns

import (
	"errors"
	"fmt"

	"github.com/weir-mesh/weir/internal/nl"
)

var (
	// ErrNotExist is that there is no such namespace, or that the process has ended.
	ErrNotExist = errors.New("there is no such namespace")
	// ErrNotNetns is that a file is there and is not a network namespace.
	ErrNotNetns = errors.New("is not a network namespace")
	// ErrNotEntered is that a namespace cannot be entered, which takes CAP_SYS_ADMIN.
	ErrNotEntered = nl.ErrNotEntered
	// ErrNotPermitted is that CAP_NET_ADMIN is missing in the user namespace that owns
	// the network namespace.
	ErrNotPermitted = nl.ErrNotPermitted
)

// A FileError is a file of another process that is not read, although it is there.
type FileError struct {
	Path   string // below /proc
	Reason string
}

func (e *FileError) Error() string { return fmt.Sprintf("read %s: %s", e.Path, e.Reason) }
