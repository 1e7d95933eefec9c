// SPDX-License-Identifier: Apache-2.0

//go:build linux

package installer

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weir-mesh/weir/internal/cni/install"
)

const primary = `{"cniVersion": "1.0.0", "name": "net", "plugins": [{"type": "bridge"}]}`

// TestInstaller: the plugin is installed once there is a list, again after another program took it out, and what
// keeps it from that is told.
func TestInstaller(t *testing.T) {
	dir := t.TempDir()
	conf, bin, program := filepath.Join(dir, "net.d"), filepath.Join(dir, "bin"), filepath.Join(dir, "weir-cni")
	for _, d := range []string{conf, bin} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write(program, "#!/bin/sh\n")
	type done struct {
		changed bool
		err     error
	}
	told := make(chan done, 64)
	i := &Installer{Options: install.Options{BinDirs: []string{bin}, ConfDir: conf, Mode: install.Chained, Program: program}, Log: slog.New(slog.DiscardHandler),
		Done: func(changed bool, err error) { told <- done{changed, err} }}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- i.Run(ctx) }()
	await := func(why string, is func(done) bool) {
		t.Helper()
		limit := time.After(time.Minute)
		for {
			select {
			case d := <-told:
				if is(d) {
					return
				}
			case <-limit:
				t.Fatalf("%s: it was not told", why)
			}
		}
	}
	await("there is no list", func(d done) bool { return d.err != nil })
	list := filepath.Join(conf, "10-net.conflist")
	installed := func() bool {
		text, err := os.ReadFile(list)
		_, missing := os.Stat(filepath.Join(bin, "weir-cni"))
		return err == nil && missing == nil && strings.Contains(string(text), `"weir-cni"`)
	}
	changed := func(d done) bool { return d.err == nil && d.changed }
	write(list, primary)
	await("a list came", changed)
	if !installed() {
		t.Error("it is not installed")
	}
	write(list, primary)
	await("another program wrote its list again", changed)
	if !installed() {
		t.Error("it is not installed again")
	}
	if err := os.Remove(filepath.Join(bin, "weir-cni")); err != nil {
		t.Fatal(err)
	}
	await("the program was deleted", changed)
	if !installed() {
		t.Error("the program is not there again")
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if !installed() {
		t.Error("what is installed does not stay when the agent ends")
	}
}
