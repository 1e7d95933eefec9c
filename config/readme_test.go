package config

import (
	"os"
	"strings"
	"testing"
)

// TestREADMEEnvironment: the README's file for --environment is one, and has every
// key.
func TestREADMEEnvironment(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(readme), "\n## Configuration\n")
	_, rest, _ := strings.Cut(section, "```yaml\n")
	example, _, _ := strings.Cut(rest, "```")
	if _, err := ParseEnvironment("README.md", []byte(example)); err != nil {
		t.Error(err)
	}
	for _, key := range environmentKeys {
		if !strings.Contains(example, key+": ") {
			t.Errorf("the example has no %s:\n%s", key, example)
		}
	}
}
