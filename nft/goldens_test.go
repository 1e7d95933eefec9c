// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nft

import (
	"os"
	"path/filepath"
	"testing"
)

// TestGoldensLoad has nft load, twice alike, every text that package rules holds
// its printing to.
func TestGoldensLoad(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	files, err := filepath.Glob("../rules/testdata/*.nft")
	if err != nil || len(files) == 0 {
		t.Fatalf("the golden files: %v, %d of them", err, len(files))
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := nftLoad(string(text)); err != nil {
				t.Errorf("%s: %v", filepath.Base(file), err)
			}
		}
	}
}
