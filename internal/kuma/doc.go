// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package kuma is what kuma-init does beyond weir itself: the flags and variables of Kuma's install transparent-proxy
// and what they mean as a configuration. Messages name its flags, not weir's keys.
package kuma
