// SPDX-License-Identifier: Apache-2.0

// Package continuity writes what keeps connections alive while a ruleset comes and
// goes: those that were open before a first apply stay as they are, and those that a
// table captured go on after a drained remove. It knows rules alone.
package continuity
