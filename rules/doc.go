// SPDX-License-Identifier: Apache-2.0

// Package rules says what a network namespace should hold for one owner: an
// nftables table with its chains, sets and maps, and the policy routing that
// its rules stand on. A [State] is plain data: modes.State makes one of a
// configuration, or a program makes it by hand; [State.Print] writes it for
// nft -f, package sim evaluates packets by it, and package capture applies it
// ([capture.OfState]).
//
// The package knows nothing of netlink, of configuration or of the machine it
// runs on, and builds on every system.
//
// Words are nft's own, see nft(8). Values are typed, so that a port cannot
// stand where a UID belongs:
//
//	out.Add("the proxy's own traffic leaves as it is",
//		rules.OIfName.Not("lo"),
//		rules.SkUID.Is(1337),
//		rules.Return())
//
// A rule's nodes are walked in order: matches first ([Key.Is], [Key.In],
// [Key.InSet] and others), then one statement or more. What a kernel would
// refuse, [State.Check] finds beforehand.
//
// [capture.OfState]: https://pkg.go.dev/github.com/weir-mesh/weir/capture#OfState
package rules
