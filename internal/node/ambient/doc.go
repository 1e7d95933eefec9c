// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package ambient is what the node's agent does for pods that have no proxy of their own: the rules in each,
// the node's table and probe set, what the node's proxy is told, what the plugin finds on disk, and what the
// API server shows. Which pods those are is the agent's to decide.
package ambient
