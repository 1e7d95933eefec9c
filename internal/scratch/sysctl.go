// SPDX-License-Identifier: Apache-2.0

//go:build linux

package scratch

import (
	"fmt"
	"os"
	"path"
	"strings"
)

// Sysctl sets a kernel setting of the namespace, by its path below /proc/sys: net/ipv4/ip_forward.
func (n *Namespace) Sysctl(key, value string) error {
	if path.Clean(key) != key || !strings.HasPrefix(key, "net/") { // clean: no .. leads elsewhere
		return fmt.Errorf("sysctl: %q is not a setting of a network namespace (want net/...)", key)
	}
	// /proc/sys/net shows the namespace of the thread that opens it.
	err := n.Do(func() error { return os.WriteFile("/proc/sys/"+key, []byte(value), 0o644) })
	if err != nil {
		return fmt.Errorf("sysctl %s: %w", key, err)
	}
	return nil
}
