// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package capture is the engine: it plans, applies, verifies and removes what a
// configuration, or a ruleset of one's own, wants of a network namespace.
//
// It holds all policy of doing so: the machine's own network namespace is refused
// unless [Options] allow it, a loopback interface that is down, by which nothing that
// is redirected arrives, is a warning, and an error for a pod that has long been up,
// a newer weir's rules are replaced and that is told, connections that are open stay as they are, the probe
// set is kept, and what other programs' chains decide first is named. Whatever
// applies rules goes through it, so that every program answers alike.
//
// A program opens a namespace with package netns, reads a configuration with package
// config or fills a [modes.Config] itself, makes a [Capture] of the two and calls its
// verbs (here without the errors):
//
//	ns, err := netns.OfProcess(pid)
//	file, err := config.Parse("pod.yaml", data) // every problem, see config.Problems
//	c, err := capture.New(ns, file.Config, capture.Options{})
//	plan, err := c.Plan(ctx)        // changes nothing: plan.Script(), plan.Differences
//	report, err := c.Apply(ctx)     // report.Outcome; report.Messages() for people
//	verdict, err := c.Verify(ctx)   // has it drifted? verdict.Differences; to heal it, apply again
//	report, err = c.Remove(ctx)     // everything that was created, and nothing else
//
// Errors that a caller may want to decide on are typed; no text is to be parsed. What a
// configuration lacks in a namespace is known to the verbs alone: file.Explain(err) tells
// where in the document it stands, and modes.Problems(err) lists it by keys. Root,
// or CAP_NET_ADMIN in the namespace and CAP_SYS_ADMIN to enter it, is needed for all
// but a plan. Tests of such a program need no kernel, see package capturetest.
//
// It knows neither flags nor output, and runs no other program.
package capture
