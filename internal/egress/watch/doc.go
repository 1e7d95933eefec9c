// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package watch counts what a network namespace calls: by destination and owner from the
// sets of mode egress, and by name from the copies of packets that its rules make. Nothing
// of it is in the way of a packet: a reader that is slow or gone loses names. It prints
// nothing.
package watch
