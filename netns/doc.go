//go:build linux

// Package netns opens network namespaces and what belongs to them: netlink, the
// process by which a namespace was named, and the files that this process sees.
//
// Whatever a process can change is read through one handle of it, taken once, so
// that neither a link in its file system nor a process ID that was used again
// leads elsewhere.
package netns
