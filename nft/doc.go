// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package nft makes a kernel hold a [rules.State] and proves that it does: it
// lowers rules to expressions, commits them over netlink, dumps what the kernel
// holds and lifts it back to a State.
//
// A [Conn] works in one network namespace, a [Session] on one table there. Its
// three verbs are [Session.Apply], [Session.Verify] and [Session.Remove];
// [Conn.Read] gives what is live. The package runs no program, needs no file system,
// and knows nothing of what a ruleset is for.
//
// It holds no policy: it applies in the machine's own network namespace, and where lo
// is down. Programs that capture traffic use package capture, which asks first.
package nft
