// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package explain answers questions about packets: what becomes of one, which step
// decides it, which classes of packets a ruleset tells apart, and which of them
// change fate between two rulesets.
//
// A configuration is explained without a kernel and without privileges ([RulesOf],
// [Pod]); a network namespace as it is now by [Live], with every table on the hooks,
// its routing, addresses and sockets. The package prints nothing:
//
//	r, err := explain.RulesOf(config, environment) // or explain.Rules{State: state}, a state that passes Check
//	packet, err := explain.Request{Packet: "tcp 93.184.216.34:443", UID: &uid}.Parse()
//	answer := r.In(explain.Pod()).Explain(packet) // answer.Says, answer.Decided; answer.Fate
//	classes, err := r.Classes(explain.Pod())      // of all packets
package explain
