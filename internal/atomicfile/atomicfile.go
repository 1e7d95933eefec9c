// SPDX-License-Identifier: Apache-2.0

// Package atomicfile writes files of a program's own state.
package atomicfile

import (
	"errors"
	"os"
	"path/filepath"
)

// Write makes text the content of a file that its owner alone reads, whole or not at all.
func Write(path string, text []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".weir-*")
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
