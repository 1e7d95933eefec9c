// SPDX-License-Identifier: Apache-2.0

//go:build linux

package install

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	editTries = 50
	editPause = 20 * time.Millisecond // a writer in place is between its two system calls
)

// edit changes a file that others write too, some in place and some by rename, and loses nothing of theirs:
// it exchanges the files in one step and looks at what it took out. Where that is not what was changed,
// another program wrote meanwhile, and that is changed in turn. It reports whether it wrote.
func edit(path string, change func([]byte) ([]byte, error)) (bool, error) {
	before, err := readWhole(path)
	if err != nil {
		return false, err
	}
	wrote := false
	for range editTries {
		after, err := change(before)
		if err != nil {
			return wrote, err
		}
		if !wrote && bytes.Equal(before, after) {
			return false, nil
		}
		name, err := temporary(path, after, 0o600)
		if err != nil {
			return wrote, err
		}
		expected := before
		if wrote {
			if expected, err = os.ReadFile(path); err != nil {
				os.Remove(name)
				return wrote, err
			}
		}
		if before, err = exchange(name, path, expected); err != nil {
			return wrote, err
		}
		wrote = true
		if before == nil {
			return true, syncFolder(path)
		}
	}
	return wrote, fmt.Errorf("%s: another program keeps writing it", path)
}

// exchange puts the file name in the place of path. What it took out is gone where it is what was expected,
// and is returned where it is not.
func exchange(name, path string, expected []byte) (newer []byte, err error) {
	defer os.Remove(name)
	err = unix.Renameat2(unix.AT_FDCWD, name, unix.AT_FDCWD, path, unix.RENAME_EXCHANGE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) { // a file system that cannot
		now, err := os.ReadFile(path)
		if err != nil || !bytes.Equal(now, expected) {
			return now, err
		}
		return nil, os.Rename(name, path)
	}
	if err != nil {
		return nil, err
	}
	if now, err := os.ReadFile(name); err != nil || bytes.Equal(now, expected) {
		return nil, err
	}
	return readWhole(name)
}

// readWhole reads a file of JSON, and waits while a program writes it in place. What is not JSON is returned
// with an error.
func readWhole(path string) (text []byte, err error) {
	for range editTries {
		if text, err = os.ReadFile(path); err != nil || json.Valid(text) {
			return text, err
		}
		time.Sleep(editPause)
	}
	return text, fmt.Errorf("%s is not JSON", path)
}
