// SPDX-License-Identifier: Apache-2.0

// Package options is what the capture programs of Istio, Linkerd, Kuma and Consul can be told, one type a
// mesh, and what it means as a configuration of weir. The init commands fill it from arguments and
// variables, and package mesh from annotations, so that both know one meaning and one set of defaults.
//
// It is pure, and names neither flags nor annotations: a [Problem] names the option, and its caller the
// place where that was given.
package options
