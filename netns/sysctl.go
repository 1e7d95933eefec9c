// SPDX-License-Identifier: Apache-2.0

//go:build linux

package netns

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/weir-mesh/weir/rules"
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

// Unmet is a setting that has another value here than rules need.
type Unmet struct {
	rules.Sysctl
	Have string
}

// Unmet are the settings that are other here than needed, and those that are not there or cannot be read.
// The error is ErrNotEntered.
func (n *Namespace) Unmet(need []rules.Sysctl) (other []Unmet, unread []rules.Sysctl, err error) {
	paths := make([]string, len(need))
	for i, s := range need {
		paths[i] = s.Name
	}
	have, err := n.Sysctls(paths...)
	if err != nil {
		return nil, nil, err
	}
	for _, s := range need {
		switch value, seen := have[s.Name]; {
		case !seen:
			unread = append(unread, s)
		case value != s.Value:
			other = append(other, Unmet{s, value})
		}
	}
	return other, unread, nil
}

// SetSysctl writes a setting of the namespace, by its path below /proc/sys. The error is
// ErrNotEntered, or that of the file: /proc/sys of a container without privileges is
// mounted for reading alone.
func (n *Namespace) SetSysctl(path, value string) error {
	return n.Inside(func() error { return os.WriteFile(filepath.Join(sysctls, path), []byte(value), 0) })
}
