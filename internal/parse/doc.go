// SPDX-License-Identifier: Apache-2.0

// Package parse reads single words of a configuration: numbers, ports and services,
// all and none, interfaces and cgroups. It reports whether a word can be read; what to
// say of one that cannot is for its callers.
package parse
