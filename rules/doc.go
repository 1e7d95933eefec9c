// Package rules says what a network namespace should hold for one owner: an
// nftables table with its chains, sets and maps, and the policy routing that
// its rules stand on. A [State] is plain data. Modes produce it, plan prints
// it, the nft package sends it to a kernel and lifts it back from one.
//
// The package knows nothing of netlink, of configuration or of the machine it
// runs on: it imports the standard library alone and builds on every system.
//
// Words are nft's own, see nft(8). Values are typed, so that a port cannot
// stand where a UID belongs:
//
//	out.Add("the proxy's own traffic leaves as it is",
//		rules.OIfName.Not("lo"),
//		rules.SkUID.Is(1337),
//		rules.Return())
package rules
