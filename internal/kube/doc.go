// SPDX-License-Identifier: Apache-2.0

// Package kube asks a Kubernetes API server for one pod, by a kubeconfig: what a CNI plugin needs where
// nothing nearer tells it of the pod. It is not a client library: it sends two requests and reads their answers
// within seconds, or says why it cannot.
package kube
