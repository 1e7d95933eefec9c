// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package diagnose looks at network namespaces and judges what it finds: whether the
// kernel and the namespace can do what modes need ([Examine], [Traffic]), and whose
// the namespaces of a node are and which engine captures there ([NewListing]).
//
// Findings are data: a name, a status, a finding and a remedy. The package prints
// nothing and changes nothing in the namespaces that it looks at, unless it is told to
// try the kernel's features there.
package diagnose
