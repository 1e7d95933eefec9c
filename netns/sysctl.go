//go:build linux

package netns

import (
	"os"
	"path/filepath"
	"strings"
)

const sysctls = "/proc/sys/"

// Sysctls are the namespace's settings by their paths below /proc/sys, such as
// net/ipv4/conf/all/rp_filter; in a path, * stands for any one name. What is not there
// or cannot be read is left out. The error is that of a pattern, or ErrNotEntered.
func (n *Namespace) Sysctls(paths ...string) (map[string]string, error) {
	out := map[string]string{}
	err := n.Inside(func() error {
		for _, path := range paths {
			files, err := filepath.Glob(sysctls + path)
			if err != nil {
				return err
			}
			for _, file := range files {
				if value, err := os.ReadFile(file); err == nil {
					out[strings.TrimPrefix(file, sysctls)] = strings.TrimSpace(string(value))
				}
			}
		}
		return nil
	})
	return out, err
}
