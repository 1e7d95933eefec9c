// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

// growStack makes the stack of the calling goroutine large while little is on it. Otherwise it
// grows by doubling under calls that are deep, is copied each time, and the runtime reads its
// tables of frames for that: a thirtieth of the CPU of a whole apply.
func growStack() { deepFrame(false) }

// deepFrame has a large frame, which is made room for whether it is used or not.
//
//go:noinline
func deepFrame(used bool) byte {
	if !used {
		return 0
	}
	var frame [24 << 10]byte
	return last(&frame)
}

//go:noinline
func last(frame *[24 << 10]byte) byte { return frame[len(frame)-1] }
