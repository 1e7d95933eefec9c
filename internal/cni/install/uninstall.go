// SPDX-License-Identifier: Apache-2.0

//go:build linux

package install

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/weir-mesh/weir/internal/cni"
)

// Uninstall takes the plugin out of every list first, and then, after that time, the program away: a runtime
// that has read the list before calls it still, and a pod whose plugin is missing can neither start nor end.
// What is not there is no error.
func Uninstall(ctx context.Context, o Options, wait time.Duration) error {
	files, err := os.ReadDir(o.ConfDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("--conf-dir: %w", err)
	}
	removed := false
	var all []error
	for _, f := range files {
		if !isList(f.Name()) || f.IsDir() {
			continue
		}
		gone, err := o.unlist(f.Name())
		removed = removed || gone
		if err != nil {
			all = append(all, o.folder("--conf-dir", o.ConfDir, err))
		}
	}
	if err := errors.Join(all...); err != nil {
		return err // the program stays, since it is still called
	}
	var programs []string
	for _, folder := range o.BinDirs {
		if path := filepath.Join(folder, cni.Type); isFile(path) {
			programs = append(programs, path)
		}
	}
	if removed && len(programs) > 0 && wait > 0 {
		o.Tell("waiting %s for calls by the former list", wait)
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(wait):
		}
	}
	for _, path := range programs {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			all = append(all, o.folder("--bin-dir", filepath.Dir(path), err))
			continue
		}
		o.Tell("%s: removed", path)
	}
	return errors.Join(all...)
}

// unlist takes the plugin out of a list. A list that is weir's own goes whole.
func (o Options) unlist(name string) (bool, error) {
	path := filepath.Join(o.ConfDir, name)
	if name == ownList {
		err := os.Remove(path)
		if err == nil {
			o.Tell("%s: removed", path)
			err = syncFolder(path)
		}
		return true, err
	}
	text, err := readWhole(path)
	if l, wrong := parseList(text); err == nil && (wrong != nil || !l.has()) || err != nil && !bytes.Contains(text, []byte(cni.Type)) {
		return false, nil // what is none of the plugin's is left, whatever it is
	}
	if err != nil {
		return false, err
	}
	wrote, err := edit(path, func(text []byte) ([]byte, error) {
		l, err := parseList(text)
		if err != nil {
			return nil, err
		}
		return l.without()
	})
	if err == nil {
		o.Tell("%s: %s is out of it", path, cni.Type)
	}
	return wrote, err
}
