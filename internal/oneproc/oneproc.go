// SPDX-License-Identifier: Apache-2.0

// Package oneproc has the program that imports it run Go code on one processor, from before
// other packages are initialized: its commands do one thing after the other, and more threads
// only wake and wait. In main it would be late: the memory cached for the other processors is
// then given back, at a page for each size class that is in use (seen: 130 of 500 page faults
// of a whole run of weir version).
//
// It imports nothing but runtime, so that it is ready to be initialized at once, among the
// first in the order of import paths.
package oneproc

import "runtime"

func init() { runtime.GOMAXPROCS(1) }
