// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package cni is weir as a CNI plugin: it answers a runtime's ADD, DEL, CHECK, GC, STATUS and VERSION, of
// CNI 0.3.1 to 1.1.0. It is chained after the plugin that makes the pod's network, and passes that one's
// result on byte for byte.
//
// An ADD decides whether the pod is captured: by what the node's agent answers, by what it left on disk, by
// the annotations that the runtime passes, and by the API server where a kubeconfig is given. A pod that
// needs capture and cannot have it fails; no other pod depends on any of these. What pods say is for package
// mesh, what is done to the kernel for package capture.
package cni
