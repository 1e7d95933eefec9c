// SPDX-License-Identifier: Apache-2.0

//go:build linux

package capture

import "context"

// Engine is the verbs of a [*Capture], for programs that want to be tested without a
// kernel: package capturetest has another one. To close a Capture is for the one who
// made it.
type Engine interface {
	Plan(context.Context) (Plan, error)
	Apply(context.Context) (Report, error)
	Verify(context.Context) (Verdict, error)
	Remove(context.Context) (Report, error)
}

var _ Engine = (*Capture)(nil)
