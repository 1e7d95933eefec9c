// SPDX-License-Identifier: Apache-2.0

//go:build linux

package install

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/weir-mesh/weir/internal/cni"
)

// Modes of an install.
const (
	Chained = "chained" // the entry goes into the primary plugin's own list
	Own     = "own"     // a list of weir's own, which sorts first, holds the primary's plugins and weir's
)

// ownList is the file of mode Own.
const ownList = "00-weir.conflist"

// Options say where a runtime looks.
type Options struct {
	BinDirs  []string // folders of plugins, the first that can be written is taken
	ConfDir  string   // the folder of network lists
	Mode     string   // Chained or Own
	Program  string   // the file to install
	Settings []byte   // further keys of the plugin's entry, in JSON; nil: those that it has
	Tell     func(format string, args ...any)
	Changed  func() // called for each file that an install changes; nil: nobody is
}

func (o Options) changed() {
	if o.Changed != nil {
		o.Changed()
	}
}

// Install installs the program first, and then the entry that makes a runtime call it. An install again
// changes what differs, and nothing else.
func Install(o Options) error {
	if o.Mode != Chained && o.Mode != Own {
		return fmt.Errorf("--conflist-mode: %q is not a mode (want %s or %s)", o.Mode, Chained, Own)
	}
	given, err := newEntry(o.Settings)
	if err != nil {
		return err
	}
	name, err := o.primary()
	if err != nil {
		return err
	}
	if err := o.installProgram(); err != nil {
		return err
	}
	switch {
	case o.Mode == Own:
		err = o.writeOwn(name, given)
	case filepath.Ext(name) == ".conflist":
		err = o.chain(name, given)
	default:
		err = o.convert(name, given)
	}
	return o.folder("--conf-dir", o.ConfDir, err)
}

// newEntry is the plugin's entry with further keys.
func newEntry(settings []byte) ([]byte, error) {
	keys := map[string]json.RawMessage{}
	if settings != nil {
		if err := json.Unmarshal(settings, &keys); err != nil {
			return nil, fmt.Errorf("--settings: it is not a map in JSON: %w", err)
		}
		if err := cni.CheckSettings(keys); err != nil {
			return nil, fmt.Errorf("--settings: %w", err)
		}
	}
	capabilities, err := json.Marshal(cni.Capabilities())
	if err != nil {
		return nil, err
	}
	if keys["capabilities"] == nil {
		keys["capabilities"] = capabilities
	}
	delete(keys, "type")
	var b bytes.Buffer
	fmt.Fprintf(&b, `{"type":%q`, cni.Type)
	for _, k := range slices.Sorted(maps.Keys(keys)) {
		key, err := json.Marshal(k)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&b, ",%s:", key)
		if err := json.Compact(&b, keys[k]); err != nil {
			return nil, err
		}
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// appended is the list with the plugin's entry last: the one that was given or, where nothing was, the one
// that is there.
func (o Options) appended(text, given []byte) ([]byte, error) {
	l, err := parseList(text)
	if err != nil {
		return nil, err
	}
	if there := l.ours(); there != nil && o.Settings == nil {
		if l.isOurs(l.entries[len(l.entries)-1]) && count(l) == 1 {
			return text, nil
		}
		given = there
	}
	return l.with(given)
}

func count(l list) (n int) {
	for _, e := range l.entries {
		if l.isOurs(e) {
			n++
		}
	}
	return n
}

func (o Options) chain(name string, given []byte) error {
	path := filepath.Join(o.ConfDir, name)
	wrote, err := edit(path, func(text []byte) ([]byte, error) { return o.appended(text, given) })
	if wrote {
		o.changed()
	}
	if err == nil {
		o.Tell("%s: %s", path, pick(wrote, cni.Type+" is its last plugin", "unchanged"))
	}
	return err
}

// convert makes a list of the configuration of one plugin, which then goes.
func (o Options) convert(name string, given []byte) error {
	path := filepath.Join(o.ConfDir, name)
	list := strings.TrimSuffix(path, filepath.Ext(name)) + ".conflist"
	if _, err := os.Lstat(list); err == nil {
		return fmt.Errorf("%s is there beside %s: remove one of them", list, path)
	}
	text, err := readWhole(path)
	if err != nil {
		return err
	}
	if text, err = wrap(text); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if text, err = o.appended(text, given); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if err := replace(list, text, info.Mode().Perm()); err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	o.changed()
	o.Tell("%s: in place of %s, with %s as its last plugin", list, name, cni.Type)
	return syncFolder(path)
}

// writeOwn makes the list of weir's own from the primary's.
func (o Options) writeOwn(name string, given []byte) error {
	path := filepath.Join(o.ConfDir, ownList)
	text, err := readWhole(filepath.Join(o.ConfDir, name))
	if err != nil {
		return err
	}
	if filepath.Ext(name) != ".conflist" {
		if text, err = wrap(text); err != nil {
			return err
		}
	}
	now, _ := os.ReadFile(path) // there may be none yet
	if there, err := parseList(now); err == nil && o.Settings == nil && there.ours() != nil {
		given = there.ours()
	}
	l, err := parseList(text)
	if err == nil {
		text, err = l.with(given)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", filepath.Join(o.ConfDir, name), err)
	}
	if bytes.Equal(text, now) {
		o.Tell("%s: unchanged", path)
		return nil
	}
	if err := replace(path, text, 0o600); err != nil {
		return err
	}
	o.changed()
	o.Tell("%s: the plugins of %s, and %s as the last one", path, name, cni.Type)
	return nil
}

func pick(yes bool, word, otherwise string) string {
	if yes {
		return word
	}
	return otherwise
}

// folder says of an error that a folder is read-only which flag names it, and what to do.
func (o Options) folder(flag, folder string, err error) error {
	if !readOnly(err) {
		return err
	}
	return fmt.Errorf("%s: %s cannot be written: %w (mount it writable, or name the folder that the runtime is configured with)", flag, folder, err)
}
