// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package linkerd is what linkerd-init does beyond weir itself: the flags of Linkerd's proxy-init and what they mean as
// a configuration. Messages name its flags, not weir's keys.
package linkerd
