// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package lab compares what becomes of real packets with what was recorded of the reference engines:
// the [Pod], which is the one topology that the conformance tables were recorded in, the tables and
// their probes, and a run of all probes.
//
// Like the networks of package scratch that it stands on, it runs no other program and knows nothing
// of interception.
package lab
