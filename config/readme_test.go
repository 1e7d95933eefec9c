// SPDX-License-Identifier: Apache-2.0

package config

import (
	"os"
	"strings"
	"testing"
)

// TestDocumentedEnvironment: the manual's file for --environment is one, and has every
// key.
func TestDocumentedEnvironment(t *testing.T) {
	page, err := os.ReadFile("../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(page), "```yaml\n")
	example, _, _ := strings.Cut(rest, "```")
	if _, err := ParseEnvironment("configuration.md", []byte(example)); err != nil {
		t.Error(err)
	}
	for _, key := range environmentKeys {
		if !strings.Contains(example, key+": ") {
			t.Errorf("the example has no %s:\n%s", key, example)
		}
	}
}
