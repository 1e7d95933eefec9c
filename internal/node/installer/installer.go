// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package installer keeps the plugin installed on a node: what another program takes out of a list, or from
// the folder of plugins, is put back.
package installer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/weir-mesh/weir/internal/cni/install"
)

// Installer keeps one node's plugin installed.
type Installer struct {
	Options install.Options // but for Tell and Changed
	Log     *slog.Logger
	Done    func(changed bool, err error) // called after each install
}

const (
	settleTime = 100 * time.Millisecond // of a primary plugin that writes its list
	retryTime  = 5 * time.Second
)

// Run installs, and again after each change of the folders, until the context ends. What is installed stays.
func (i *Installer) Run(ctx context.Context) error {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch the plugin's folders: %w", err)
	}
	defer watcher.Close()
	for _, folder := range append([]string{i.Options.ConfDir}, i.Options.BinDirs...) {
		if err := watcher.Add(folder); err != nil {
			i.Log.Warn("a folder is looked at from time to time alone", "folder", folder, "error", err)
		}
	}
	var last error
	for {
		changed, err := i.install()
		if ctx.Err() != nil {
			return nil
		}
		i.Done(changed, err)
		if err != nil && (last == nil || err.Error() != last.Error()) {
			i.Log.Error("the plugin is not installed", "error", err)
		}
		last = err
		if !i.await(ctx, watcher, err != nil) {
			return nil
		}
	}
}

// install installs once.
func (i *Installer) install() (changed bool, err error) {
	o := i.Options
	o.Changed = func() { changed = true }
	var told []string
	o.Tell = func(format string, args ...any) { told = append(told, fmt.Sprintf(format, args...)) }
	err = install.Install(o)
	if changed {
		for _, line := range told {
			i.Log.Info("install", "did", line)
		}
	}
	return changed, err
}

// await waits for a change of a folder, or for a while where the last install failed; false once the context
// ended.
func (i *Installer) await(ctx context.Context, watcher *fsnotify.Watcher, failed bool) bool {
	var retry <-chan time.Time
	if failed {
		timer := time.NewTimer(retryTime)
		defer timer.Stop()
		retry = timer.C
	}
	select {
	case <-ctx.Done():
		return false
	case <-retry:
		return true
	case err := <-watcher.Errors:
		if !errors.Is(err, fsnotify.ErrEventOverflow) {
			i.Log.Warn("watch the plugin's folders", "error", err)
		}
	case <-watcher.Events:
	}
	settled := time.NewTimer(settleTime)
	defer settled.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-watcher.Events:
		case <-settled.C:
			return true
		}
	}
}
