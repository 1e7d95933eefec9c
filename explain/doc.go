// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package explain answers questions about packets: what becomes of one, which step
// decides it, which classes of packets a ruleset tells apart, and which of them
// change fate between two rulesets.
//
// A configuration is explained without a kernel and without privileges ([RulesOf],
// [Pod]); a network namespace as it is now by [Live], with every table on the hooks,
// its routing, addresses and sockets. The package prints nothing.
package explain
