// SPDX-License-Identifier: Apache-2.0

// Package modes says what to capture. A [Config] is what people write and an
// [Environment] what a network namespace is like; together they become, checked,
// a [rules.State]:
//
//	state, notes, err := modes.State(config, environment)
//
// Each mode is one file that reads top-down in the order in which packets meet
// its rules. The package touches no kernel, file or clock: it imports rules
// alone and builds on every system.
package modes
