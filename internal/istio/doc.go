// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package istio is what istio-init does beyond weir itself: its flags and variables, what they mean as
// a configuration, and the validation that it offers. Messages name its flags, not weir's keys.
//
// It neither prints nor ends the program; the command does.
package istio
