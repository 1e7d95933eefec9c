// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"cmp"
	"context"
	"debug/buildinfo"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// inventories writes what each program holds as PROGRAM_1.2.3_linux_ARCH.cdx.json, in CycloneDX: every module and
// the standard library, with version and hash.
func (b build) inventories(ctx context.Context, arch string, programs []file) error {
	for _, p := range programs {
		to := filepath.Join(b.out, fmt.Sprintf("%s_%s_linux_%s.cdx.json", filepath.Base(p.path), strings.TrimPrefix(b.version, "v"), arch))
		if err := run(ctx, nil, "go", "tool", "-modfile=tools.mod", "cyclonedx-gomod", "bin", "-json", "-noserial", "-std", "-version", b.version, "-output", to, p.from); err != nil {
			return err
		}
		if err := settle(to, b.date.Format("2006-01-02T15:04:05Z")); err != nil {
			return err
		}
	}
	return nil
}

// settle leaves nothing in an inventory that differs from run to run: its time is the commit's, and the hashes of the
// tool, which is built where it runs, go.
func settle(path, date string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if text, err = settled(text, date); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return os.WriteFile(path, text, 0o644)
}

func settled(text []byte, date string) ([]byte, error) {
	var document struct {
		Metadata struct {
			Timestamp string `json:"timestamp"`
			Tools     []struct {
				Hashes json.RawMessage `json:"hashes"`
			} `json:"tools"`
		} `json:"metadata"`
	}
	if err := json.Unmarshal(text, &document); err != nil {
		return nil, err
	}
	if now := document.Metadata.Timestamp; now != "" {
		text = bytes.ReplaceAll(text, []byte(now), []byte(date))
	}
	for _, tool := range document.Metadata.Tools {
		if hashes := regexp.MustCompile(`"hashes": ` + regexp.QuoteMeta(string(tool.Hashes)) + `,\s*`); tool.Hashes != nil {
			text = hashes.ReplaceAll(text, nil)
		}
	}
	return text, nil
}

var licenceFile = regexp.MustCompile(`(?i)^(licen[cs]e|copying|notice|copyright)([.-].*)?$`)

// licences are those of the modules that programs hold, and the project's own.
func (b build) licences(ctx context.Context, programs []file) ([]file, error) {
	held := map[string]string{} // a module's path and version: its folder
	for _, p := range programs {
		info, err := buildinfo.ReadFile(p.from)
		if err != nil {
			return nil, err
		}
		for _, m := range info.Deps {
			if m.Replace != nil {
				m = m.Replace
			}
			held[m.Path+"@"+m.Version] = ""
		}
	}
	modules := make([]string, 0, len(held))
	for m := range held {
		modules = append(modules, m)
	}
	slices.Sort(modules)
	made := []file{{from: "LICENSE", path: "usr/share/doc/weir/LICENSE", mode: 0o644}}
	for _, m := range modules {
		listed, err := output(ctx, "go", "mod", "download", "-json", m)
		if err != nil {
			return nil, err
		}
		var module struct{ Dir string }
		if err := json.Unmarshal([]byte(listed), &module); err != nil {
			return nil, err
		}
		texts, err := licencesIn(module.Dir, m)
		if err != nil {
			return nil, err
		}
		made = append(made, texts...)
	}
	goroot, err := output(ctx, "go", "env", "GOROOT")
	if err != nil {
		return nil, err
	}
	made = append(made, file{from: filepath.Join(goroot, "LICENSE"), path: "usr/share/doc/weir/licences/go/LICENSE", mode: 0o644})
	slices.SortFunc(made, func(x, y file) int { return cmp.Compare(x.path, y.path) })
	return made, nil
}

func licencesIn(dir, module string) ([]file, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var made []file
	for _, e := range entries {
		if e.Type().IsRegular() && licenceFile.MatchString(e.Name()) {
			made = append(made, file{from: filepath.Join(dir, e.Name()), path: "usr/share/doc/weir/licences/" + module + "/" + e.Name(), mode: 0o644})
		}
	}
	if len(made) == 0 {
		return nil, fmt.Errorf("%s has no licence", module)
	}
	return made, nil
}
