//go:build linux

// Package capture is the engine: it plans, applies, verifies and removes what a
// configuration, or a ruleset of one's own, wants of a network namespace.
//
// It holds all policy of doing so: the machine's own network namespace is refused
// unless [Options] allow it, a loopback interface that is down is an error where
// nothing else would bring what is captured to the proxy, a newer weir's rules are
// replaced and that is told, connections that are open stay as they are, the probe
// set is kept, and what other programs' chains decide first is named. Whatever
// applies rules goes through it, so that every program answers alike.
//
// A program opens a namespace with package netns, reads a configuration with package
// config or fills a [modes.Config] itself, makes a [Capture] of the two and calls its
// verbs. Errors that a caller may want to decide on are typed; no text is to be parsed.
//
// It knows neither flags nor output, and runs no other program.
package capture
