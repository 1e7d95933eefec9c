// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package capturetest stands for a network namespace and its kernel in tests of
// programs that use package capture: it keeps states, answers plan, apply, verify and
// remove as the kernel would, lets a test disturb what is there, and asks the same
// policy.
//
// A program under test holds a [capture.Engine], which a function makes that the test
// replaces:
//
//	ns := &capturetest.Namespace{Environment: modes.Environment{IPv6: true}}
//	engine, err := ns.New(config, capture.Options{})
//
// It captures nothing and knows no connections, no foreign chains and no routing of
// other programs. What matters about those is to be tested in a namespace.
package capturetest
