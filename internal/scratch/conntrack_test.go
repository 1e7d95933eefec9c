// SPDX-License-Identifier: Apache-2.0

//go:build linux

package scratch

import (
	"testing"
)

// FuzzParseFlow: what the kernel sends is read or refused, whatever it is.
func FuzzParseFlow(f *testing.F) {
	f.Add([]byte{2, 0, 0, 0})
	f.Add([]byte{2, 0, 0, 0, 8, 0, 0, 8, 0, 0, 1, 0x11})
	f.Add([]byte{2, 0, 0, 0, 20, 0, 1, 0x80, 16, 0, 1, 0x80, 8, 0, 1, 0, 1, 2, 3, 4, 8, 0, 2, 0, 5, 6, 7, 8})
	f.Fuzz(func(t *testing.T, data []byte) {
		if _, err := parseFlow(data); err == nil && len(data) < nfgenSize {
			t.Errorf("read %x", data)
		}
	})
}
