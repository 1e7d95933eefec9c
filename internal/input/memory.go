// SPDX-License-Identifier: Apache-2.0

package input

import (
	"runtime"
	"runtime/debug"
)

const (
	large        = 64 << 10 // bytes, of a configuration or a list
	firstPercent = 800      // per cent: the first collection comes at 32 MiB and not at 4
)

// expectLarge puts the first collection of garbage off, for a process that reads a
// large input, works and ends. From then on the collector works as usual, so that
// the peak of 100,000 prefixes stays what it is.
func expectLarge() {
	usual := debug.SetGCPercent(firstPercent)
	if usual < 0 || usual >= firstPercent { // GOGC was set
		debug.SetGCPercent(usual)
		return
	}
	runtime.AddCleanup(new([16]byte), func(usual int) { debug.SetGCPercent(usual) }, usual)
}
