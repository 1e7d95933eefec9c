// SPDX-License-Identifier: Apache-2.0

// Package mesh reads what a pod says about its own capture: the annotations of Istio, Linkerd, Kuma and
// Consul, Nomad's argument, and weir.dev/config, which holds a whole configuration. From them, and from
// what else is known of the pod, it decides whether the pod is captured, and by which configuration.
//
// It is pure: it knows neither the kernel nor an API, and its callers say what is known. What pods say
// is not trusted: values are bounded, and every problem names the annotation, the place in it and what was
// wanted.
package mesh
