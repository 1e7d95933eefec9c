// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nft

import (
	"slices"
	"testing"

	"github.com/weir-mesh/weir/rules"
)

const preroutingChain = "chain c { type filter hook prerouting priority 0; "

// foreignTexts are tables that others may write and the model knows in all their
// parts, though a mode would write them otherwise or not at all.
var foreignTexts = []struct{ why, body string }{
	{"a concatenation of one element is a list", preroutingChain + "ip saddr . tcp dport { 10.0.0.1 . 22 } accept; }"},
	{"a concatenation other than one element is a list", preroutingChain + "meta mark . meta skuid != { 0x1 . 1000 } accept; }"},
	{"a concatenation of one element may hold ranges", preroutingChain + "ip6 saddr . udp dport { 2001:db8::/32 . 1-1023 } accept; }"},
	{"a concatenation of one element may have three parts", preroutingChain + `iifname . ip daddr . tcp sport != { "eth0" . 10.0.0.1 . 80 } drop; }`},
	{"a map of one concatenation", preroutingChain + "ip daddr . tcp dport vmap { 10.0.0.1 . 80 : accept }; }"},
	{"a concatenation of one element in a map may hold ranges", preroutingChain + "meta mark . meta skuid vmap { 0x1-0x7 . 1000-2000 : drop }; }"},
	{"concatenations of several elements", preroutingChain + "ip daddr . tcp dport { 10.0.0.1 . 80, 10.0.0.0/24 . 90-99 } accept; }"},
	{"a list of one value is that value", preroutingChain + "tcp dport { 80 } accept; meta mark != { 0x7 } drop; ip saddr { 10.0.0.0/8 } accept; }"},
	{"a list of one value may have a comment", preroutingChain + `tcp dport { 80 comment "the web" } accept; ip saddr { 10.0.0.0/8 comment "a; {b}" } drop comment "of the rule"; }`},
	{"elements of a list may have comments", preroutingChain + `meta mark { 0x1 comment "one", 0x2 } accept; }`},
	{"ranges of values in the machine's byte order", preroutingChain + "meta mark 0x10-0xff00 meta skuid != 1000-2000 accept; meta mark { 0x1-0x100, 0x7000 } drop; }"},
	{"sets of ranges in the machine's byte order", "set s { type mark . uid; flags interval; elements = { 0x1-0x100 . 0-999, 0x200 . 1000 } }\n set m { type mark; flags interval; elements = { 0x1-0x100, 0xfffffff0-0xffffffff } }\n" +
		preroutingChain + "meta mark . meta skuid @s accept; meta mark & 0xffff @m drop; }"},
	{"IPv6 addresses that hold IPv4 ones", "set s { type ipv6_addr; flags interval; elements = { ::ffff:192.0.2.1, ::ffff:10.0.0.0/104, ::10.0.0.1 } }\n" +
		preroutingChain + "ip6 saddr ::ffff:192.0.2.1 accept; ip6 daddr ::ffff:0.0.0.0/96 drop; ip6 daddr . tcp dport { ::ffff:192.0.2.1 . 80 } drop; }"},
	{"names that mean something elsewhere", "set established { type mark; }\n set ipv4_addr { type ipv4_addr; }\n set _under { type uid; }\n set sl/ash { type mark; }\n chain lo { }\n chain fe80 { meta mark @established jump lo; }\n" +
		preroutingChain + "ip saddr @ipv4_addr goto fe80; meta skuid @_under ct mark @sl/ash drop; }"},
	{"comments of odd characters", `set s { type mark; elements = { 0x1 comment "<unknown: log>", 0x2 comment "it's; {odd}, a : b" } }` + "\n" + preroutingChain + `accept comment "back\slash é 100% $x #5 @set *"; }`},
	{"sets and maps without elements", "set s { type ipv4_addr; flags interval; }\n set c { type ipv4_addr . inet_service; flags interval; }\n map v { type mark : verdict; }\n map i { type ipv6_addr : verdict; flags interval; }\n" +
		preroutingChain + "ip saddr @s ip daddr . tcp dport @c drop; meta mark vmap @v; ip6 saddr vmap @i; }"},
	{"ranges to the last value alone", "set p { type inet_service; flags interval; elements = { 60000-65535 } }\n set a { type ipv4_addr; flags interval; elements = { 128.0.0.0/1 } }\n map v { type mark : verdict; flags interval; elements = { 0x80000000-0xffffffff : drop } }\n" +
		preroutingChain + "tcp dport @p accept; meta mark vmap @v; udp dport { 1-5, 60000-65535 } drop; tcp sport 0-65535 accept; }"},
	{"all values", "set a { type ipv4_addr; flags interval; elements = { 0.0.0.0/0 } }\n set b { type ipv6_addr; flags interval; elements = { ::/0 } }\n" + preroutingChain + "ip saddr 0.0.0.0/0 accept; ip6 daddr != ::/0 accept; }"},
	{"timeouts under a second", "set s { type mark; flags timeout; timeout 500ms; elements = { 0x1 timeout 1h500ms } }\n map v { type uid : verdict; flags timeout; timeout 1d2h3m4s60ms; elements = { 1000 timeout 9d : drop } }"},
	{"wildcards in a concatenation", `set s { type ifname . mark; flags interval; elements = { "eth*" . 0x1, "lo" . 0x2-0x9, "abcdefghijklmn*" . 0x1 } }` + "\n" + preroutingChain + "iifname . meta mark @s accept; }"},
	{"wildcards that follow each other", `set s { type ifname; flags interval; elements = { "eth0*", "eth1*" } }` + "\n" + `set m { type ifname; flags interval; auto-merge; elements = { "a*", "b*", "wg*" } }` + "\n" +
		preroutingChain + `iifname { "d*", "e*", "veth1*" } accept; iifname != { "eth0*", "eth1*", "eth2*" } drop; iifname @s iifname @m accept; }`},
	{"connection states", preroutingChain + "ct state established,related accept; ct state != established,related drop; ct state & (new | invalid) == new drop; ct state { new, established } accept; ct state != new accept; ct state established | related drop; ct state ! invalid accept; ct state vmap { invalid : drop, established : accept }; }"},
	{"maps of verdicts with counters and comments", `map v { type inet_service : verdict; flags interval; counter; elements = { 80 counter packets 5 bytes 77 comment "web" : accept, 1024-2048 : drop } }` + "\n" + preroutingChain + "tcp dport vmap @v; }"},
	{"a set by typeof", "set s { typeof ip saddr . th dport; elements = { 10.0.0.1 . 80 } }\n" + preroutingChain + "meta l4proto tcp ip saddr . th dport @s accept; }"},
	{"how a set is kept", `set s { type ipv4_addr; flags interval; auto-merge; policy memory; size 77; comment "others have comments"; elements = { 10.0.0.1, 10.0.0.2 } }`},
	{"prefixes and wildcards that are not meant", preroutingChain + `ip saddr != 10.0.0.0/9 ip daddr != 10.0.0.0/8 iifname != "eth*" drop; ip saddr & 0.0.0.255 == 0.0.0.7 accept; ip6 saddr & ::ff != ::7 accept; }`},
	{"two ports in one rule", preroutingChain + "tcp sport 1024 tcp dport & 0xffff == 80 accept; udp sport != 53 udp dport & 0xffff != 53 drop; th sport 1-7 th dport 8 accept; }"},
	{"two ports under masks in one rule", preroutingChain + "tcp dport & 0xff00 == 0 tcp dport & 0xff00 == 0 accept; tcp sport & 0xff == 7 tcp dport & 0xf0 != 0x50 drop; udp dport 53 udp sport & 0xfff0 == 0x400 drop; }"},
	{"protocols by name, number and range", preroutingChain + "meta l4proto != { 6, 17, 132 } drop; meta l4proto 50-51 accept; meta l4proto != 100-255 accept; meta l4proto vmap { tcp : accept, 136 : drop }; }"},
	{"marks put together", preroutingChain + "meta mark set ct mark & 0xff; ct mark set ct mark & 0xfffff000 | 0x111; meta mark set meta mark ^ 0x3; meta mark set meta mark | 0x10; }"},
	{"words for the priority and the device", `chain c { type filter hook ingress device "lo" priority filter + 5; policy drop; meta mark 1 accept; }`},
}

// TestForeignTextsHold has nft load tables of others. Each is lifted with nothing
// unknown in it, and our text of it, loaded by nft, makes the same table.
func TestForeignTextsHold(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	r := &roundTrip{t: t, c: dialKernel(t), nft: newInteractiveNFT(t)}
	for _, f := range foreignTexts {
		theirs := script{family: "inet", name: "weir", text: "table inet weir {\n" + f.body + "\n}\n"}
		before, table := loadForeign(t, r, f.why, theirs)
		if table == nil {
			continue
		}
		if rest, whole := knownPart(table.Table); !whole {
			t.Errorf("%s: something in it is unknown: %s\nknown is %s", f.why, rules.State{Table: table.Table}, rules.State{Table: rest})
			continue
		}
		ours := script{family: "inet", name: "weir", text: rules.State{Table: table.Table}.String()}
		after, again := loadForeign(t, r, f.why+", in our text", ours)
		if again == nil {
			continue
		}
		want, have := rules.State{Table: table.Table}, rules.State{Table: again.Table}
		if d := want.Compare(have); len(d) > 0 || want.String() != have.String() {
			t.Errorf("%s: %v\nwas %s\nis  %s", f.why, d, want, have)
		}
		for chain, list := range before.raw[theirs.of()] {
			for i, rule := range list {
				was, is := instructions(rule.exprs), instructions(after.raw[theirs.of()][chain][i].exprs)
				if was, is = withoutJoined(was, is); !slices.Equal(was, is) {
					t.Errorf("%s: chain %s rule %d was %q and is %q", f.why, chain, i+1, was, is)
				}
			}
		}
	}
}

func loadForeign(t *testing.T, r *roundTrip, why string, s script) (reading, *LiveTable) {
	t.Helper()
	if _, refused := r.load([]script{s}); len(refused) > 0 {
		t.Errorf("%s: nft refuses %s: %s", why, s.text, refused[s])
		return reading{}, nil
	}
	read, err := r.read()
	if err != nil {
		t.Errorf("%s: %v", why, err)
		return reading{}, nil
	}
	return read, read.tables.Find(s.family, s.name)
}
