// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// timerSlack is how late the kernel may wake a thread that sleeps, in nanoseconds (prctl(2), PR_SET_TIMERSLACK). Go's
// runtime has threads that sleep for 3 to 20 microseconds over and over while others are busy, which cost a sixth of
// the processor time of a connection with the usual 50 microseconds. Nothing here is to be done to the millisecond; with 5 of them
// work waits for threads that sleep.
const timerSlack = 2_000_000

// sleepLonger has all threads of the program sleep with timerSlack. A thread inherits it from the one that started
// it, and the runtime's own have started before main: so that the program is executed again. Where any of it is
// not allowed, the program is only slower.
func sleepLonger() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if slack() == timerSlack {
		return // executed again
	}
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, timerSlack, 0, 0, 0); err != nil || slack() != timerSlack {
		return
	}
	_ = unix.Exec("/proc/self/exe", os.Args, os.Environ())
}

func slack() int {
	n, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0)
	if err != nil {
		return 0
	}
	return n
}
