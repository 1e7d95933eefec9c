// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package consul is what consul-redirect does beyond weir itself: the flags of Consul's connect redirect-traffic and
// what they mean as a configuration. Messages name its flags, not weir's keys.
package consul
