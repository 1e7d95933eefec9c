// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// kept are the results of the same programs, so that kernels and rows may be run by and by.
type kept struct {
	Build   string // a digest of the programs
	Columns []column
}

// build is a digest of the programs that run in the guest.
func (h *host) build() (string, error) {
	digest := sha256.New()
	for _, name := range []string{h.weir, h.tests} {
		content, err := os.ReadFile(name)
		if err != nil {
			return "", err
		}
		digest.Write(content)
	}
	return fmt.Sprintf("%x", digest.Sum(nil)), nil
}

func (h *host) keptFile() string { return filepath.Join(h.dir, "results.json") }

// keep adds what was run now to what earlier runs of the same programs kept, and returns all.
func (h *host) keep(now []column) ([]column, error) {
	build, err := h.build()
	if err != nil {
		return nil, err
	}
	var k kept
	text, err := os.ReadFile(h.keptFile())
	if err == nil {
		err = json.Unmarshal(text, &k)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", h.keptFile(), err)
	}
	if k.Build != build {
		k = kept{Build: build}
	}
	k.Columns = joined(k.Columns, now)
	if text, err = json.MarshalIndent(k, "", "\t"); err != nil {
		return nil, err
	}
	return k.Columns, os.WriteFile(h.keptFile(), text, 0o644)
}

// joined are the columns of both, in the order of the kernels; what was run later counts.
func joined(earlier, later []column) (all []column) {
	for _, k := range kernels {
		of := func(c column) bool { return c.Version == k.Version }
		c := column{kernel: k}
		for _, list := range [][]column{earlier, later} {
			for i := range list {
				if of(list[i]) {
					c.Release = list[i].Release
					c.Results = updated(c.Results, list[i].Results)
				}
			}
		}
		if len(c.Results) > 0 {
			all = append(all, c)
		}
	}
	return all
}

// updated are results of which those of the same rows are replaced by later ones.
func updated(results, later []result) []result {
	results = slices.DeleteFunc(slices.Clone(results), func(r result) bool {
		return slices.ContainsFunc(later, func(l result) bool { return l.Row == r.Row })
	})
	return append(results, later...)
}

// complete reports whether every row was run on every kernel.
func complete(columns []column) bool {
	return len(columns) == len(kernels) && !slices.ContainsFunc(columns, func(c column) bool {
		return slices.ContainsFunc(rows, func(r row) bool { return c.cell(r.name) == notRun })
	})
}
