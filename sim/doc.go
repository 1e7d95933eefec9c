// SPDX-License-Identifier: Apache-2.0

// Package sim tells what a kernel does with a packet: which rules it meets in a
// network namespace, where nat and routing take it, and what becomes of it. A [Host]
// is what the namespace is like beside its tables, an [Evaluator] takes a [Packet]
// through both, and a [Journey] is every decision on the way and the [Fate] at its end.
//
// The package knows rules alone. It reads no kernel: package netns makes the Host of a
// live namespace, [NewHost] one of addresses. A host of NewHost has no socket and no
// default route: give it what the question is about, or let it assume its listeners
// ([Host].Assumes). Package explain's Pod is a host with both, and puts fates in words.
package sim
