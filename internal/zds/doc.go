// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package zds is the agent's end of the protocol by which ztunnel, Istio's proxy of a node, learns of the pods
// that it serves: istio.workload.zds. Each message is a packet of a SOCK_SEQPACKET unix socket, and a pod's
// network namespace travels beside its Add as a descriptor (SCM_RIGHTS).
//
// A proxy says hello, is told of every pod there is (the snapshot: what is not in it the proxy gives up), and
// then of each that comes and goes. It acknowledges every message. The package knows neither Kubernetes nor
// rules: which pods there are is the caller's.
package zds
