// SPDX-License-Identifier: Apache-2.0

//go:build linux

package install

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/weir-mesh/weir/internal/cni"
)

// isList reports whether runtimes take a file for a network.
func isList(name string) bool {
	return slices.Contains([]string{".conf", ".conflist", ".json"}, filepath.Ext(name))
}

// primary is the file that the runtime takes: the first one that it can read, but for weir's own.
func (o Options) primary() (string, error) {
	files, err := os.ReadDir(o.ConfDir) // sorted, as runtimes sort
	if err != nil {
		return "", fmt.Errorf("--conf-dir: %w", err)
	}
	for _, f := range files {
		if !isList(f.Name()) || f.Name() == ownList || f.IsDir() {
			continue
		}
		version, err := o.check(f.Name())
		switch {
		case err != nil:
			o.Tell("%s is passed over: %v", filepath.Join(o.ConfDir, f.Name()), err)
		case !slices.Contains(cni.Versions(), version):
			return "", fmt.Errorf("%s is of CNI version %q, and %s speaks %s: every pod would fail (let the primary plugin write another version)",
				filepath.Join(o.ConfDir, f.Name()), version, cni.Type, strings.Join(cni.Versions(), ", "))
		default:
			return f.Name(), nil
		}
	}
	return "", fmt.Errorf("--conf-dir: %s holds no network to chain to: install the primary CNI plugin first", o.ConfDir)
}

// check is the version of a list or of a configuration of one plugin.
func (o Options) check(name string) (version string, err error) {
	text, err := readWhole(filepath.Join(o.ConfDir, name))
	if err != nil {
		return "", err
	}
	if filepath.Ext(name) != ".conflist" {
		if text, err = wrap(text); err != nil {
			return "", err
		}
	}
	l, err := parseList(text)
	if err == nil && !slices.ContainsFunc(l.entries, func(e entry) bool { return !l.isOurs(e) }) {
		err = errors.New("it has no plugin that makes a network")
	}
	return l.version, err
}
