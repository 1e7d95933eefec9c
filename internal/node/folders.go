// SPDX-License-Identifier: Apache-2.0

//go:build linux

package node

import (
	"context"
	"fmt"
	"os"

	"github.com/fsnotify/fsnotify"
)

// WatchFolders has the pods listed again when something comes or goes in one of the folders, and every
// namespace looked at when a release begins or ends. It returns when the context ends.
func (a *Agent) WatchFolders(ctx context.Context, folders ...string) error {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch folders: %w", err)
	}
	defer watcher.Close()
	if err := os.MkdirAll(a.StateDir, 0o700); err != nil {
		a.Log.Warn("a release is noticed late", "folder", a.StateDir, "error", err)
	}
	for _, folder := range append(folders, a.StateDir) {
		if err := watcher.Add(folder); err != nil {
			a.Log.Warn("pods that come are noticed late, by a sweep alone", "folder", folder, "error", err)
		}
	}
	released := a.Released()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-watcher.Errors:
			a.Refresh()
		case <-watcher.Events:
			a.Refresh()
		}
		if now := a.Released(); now != released {
			released = now
			if now {
				a.Log.Warn("every capture of this node is released, until weir-node release --resume")
			} else {
				a.Log.Info("captures are resumed")
			}
			a.Sweep()
			a.Ambient.look()
		}
	}
}
