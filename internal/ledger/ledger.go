// SPDX-License-Identifier: Apache-2.0

// Package ledger is what this node's own weir wrote into pods: a folder of the machine, where no pod can write. A tag in a
// pod's table says what some weir wrote, and a pod that may change its rules can write one too.
package ledger

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Ledger is the folder, with a file for each sandbox. Where it is "" nothing is noted, and nothing was.
type Ledger string

// Note remembers the hash of the state that was written into a sandbox.
func (l Ledger) Note(sandbox, hash string) error {
	if l == "" || sandbox == "" {
		return nil
	}
	path, err := l.file(sandbox)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(string(l), 0o700); err != nil {
		return err
	}
	next, err := os.CreateTemp(string(l), ".next-*")
	if err != nil {
		return err
	}
	_, err = next.WriteString(hash)
	if err = errors.Join(err, next.Close()); err == nil {
		err = os.Rename(next.Name(), path) // a reboot, which might lose it, ends the sandbox too
	}
	if err != nil {
		return errors.Join(err, os.Remove(next.Name()))
	}
	return nil
}

// Wrote reports whether that state is what was written into a sandbox last.
func (l Ledger) Wrote(sandbox, hash string) bool { return hash != "" && l.Noted(sandbox) == hash }

// Noted is the hash of what was written into a sandbox last; "" where nothing is known to have been.
func (l Ledger) Noted(sandbox string) string {
	if l == "" {
		return ""
	}
	path, err := l.file(sandbox)
	if err != nil {
		return ""
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

// Forget ends that for a sandbox that goes.
func (l Ledger) Forget(sandbox string) error {
	if l == "" {
		return nil
	}
	path, err := l.file(sandbox)
	if err != nil {
		return err
	}
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// youngest is how old a note must be that is pruned: the sandbox's own may be written before it is listed.
const youngest = 10 * time.Minute

// Prune forgets the sandboxes that are not there any more.
func (l Ledger) Prune(there map[string]bool) error {
	if l == "" {
		return nil
	}
	files, err := os.ReadDir(string(l))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	wrong := []error{err}
	for _, f := range files {
		info, err := f.Info()
		if err == nil && !there[f.Name()] && time.Since(info.ModTime()) > youngest {
			wrong = append(wrong, os.Remove(filepath.Join(string(l), f.Name())))
		}
	}
	return errors.Join(wrong...)
}

func (l Ledger) file(sandbox string) (string, error) {
	if !isFileName(sandbox) {
		return "", fmt.Errorf("%q is not the name of a sandbox", sandbox)
	}
	return filepath.Join(string(l), sandbox), nil
}

// isFileName reports whether a name is 1 to 128 letters, digits, "_", "." and "-", of which the first is a letter or a
// digit.
func isFileName(name string) bool {
	for i, c := range []byte(name) {
		isAlphanumeric := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !isAlphanumeric && (i == 0 || c != '_' && c != '.' && c != '-') {
			return false
		}
	}
	return name != "" && len(name) <= 128
}
