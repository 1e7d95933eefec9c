// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package serve is in the path of what a network namespace calls of named hosts: it answers DNS for them with virtual
// addresses, carries connections to those to the hosts, has plain HTTP go over verified TLS, and counts. What is captured
// for it follows from its settings. It prints nothing.
package serve
