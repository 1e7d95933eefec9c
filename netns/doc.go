// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package netns opens network namespaces and what belongs to them: netlink, the
// process by which a namespace was named, and the files that this process sees.
//
// [OfProcess] opens the namespace of a process by its PID, [Open] one by its file or by
// the name that ip-netns(8) gave it, [Current] the program's own. What is to happen in
// a namespace, such as to open a socket, runs by [Namespace.Inside].
//
// Whatever a process can change is read through one handle of it, taken once, so
// that neither a link in its file system nor a process ID that was used again
// leads elsewhere.
package netns
