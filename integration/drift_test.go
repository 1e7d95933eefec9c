// SPDX-License-Identifier: Apache-2.0

//go:build linux

package integration

import (
	"context"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"
	"github.com/jsimonetti/rtnetlink/v2"
	"github.com/mdlayher/netlink"
	"github.com/weir-mesh/weir/internal/reserved"
	"github.com/weir-mesh/weir/nft"
	"golang.org/x/sys/unix"
)

// drift is one thing that another program does behind weir's back.
type drift struct {
	why string
	// do are lines for nft ("nft ..."), for ip ("ip ..."), or "rewrite OLD -> NEW",
	// which loads the table anew with its text changed. "<reason>" stands for
	// the handle of the rule with that comment.
	do    []string
	by    func(*namespace)
	since [2]int   // the version of Linux that can do it
	named []string // regular expressions that what verify says must match
}

const (
	own     = "the proxy's own traffic leaves as it is"
	stays   = "what stays in the pod is left alone"
	ports   = "excluded ports are left alone"
	rest    = "everything else goes to the proxy"
	listen  = "to the outbound listener"
	bridge  = "ipv4 from the bridge is counted"
	tunnel  = "any tunnel"
	oneHost = "one host"
	network = "a network"
	some    = "some ports"
	byMap   = "a port decides"
	replies = "the proxy's replies to itself"
	has     = "a connection that the proxy has"
	inbound = "a new connection goes to the inbound listener"
	carries = "a reply carries its connection's mark"
)

// replace is the line that gives a rule another text under the same reason.
func replace(chain, reason, text string) []string {
	return []string{"nft replace rule inet weir " + chain + " handle <" + reason + "> " + text + ` comment "` + reason + `"`}
}

// rule is how verify names a rule that differs.
func rule(chain, reason string) []string {
	return []string{`chain ` + chain + ` rule \d+ "` + regexp.QuoteMeta(reason) + `"`}
}

var drifts = []drift{
	// Rules come, go and move.
	{why: "a rule is deleted", do: []string{"nft delete rule inet weir output handle <" + own + ">"}, named: append(rule("output", own), "is missing")},
	{why: "a rule is added at the end", do: []string{"nft add rule inet weir output tcp dport 80 accept"}, named: []string{"chain output rule 7 should not be there", "tcp dport 80 accept"}},
	{why: "a rule is inserted before all others", do: []string{"nft insert rule inet weir output accept"}, named: []string{"chain output rule 1 should not be there", "accept"}},
	{why: "a rule is added in between", do: []string{"nft add rule inet weir output handle <" + stays + "> meta skuid 7 accept"}, named: []string{"chain output rule 3 should not be there", "skuid 7"}},
	{why: "a rule is added to the chain of another", do: []string{`nft add rule inet weir to_proxy tcp dport 1 drop comment "by hand"`}, named: append(rule("to_proxy", "by hand"), "should not be there")},
	{why: "a rule stands there twice", do: []string{`nft insert rule inet weir local oifname "tun*" return comment "any tunnel"`}, named: append(rule("local", tunnel), "should not be there")},
	{why: "two rules change places", do: []string{"nft delete rule inet weir local handle <" + tunnel + ">", `nft add rule inet weir local oifname "tun*" return comment "any tunnel"`}, named: rule("local", tunnel)},
	{why: "all rules of a chain are flushed", do: []string{"nft flush chain inet weir output"}, named: append(rule("output", own), rule("output", rest)...)},

	// What a rule says.
	{why: "a verdict", do: replace("output", own, "meta skuid @proxies accept"), named: append(rule("output", own), "want .*return", "have .*accept")},
	{why: "a verdict goes", do: replace("local", bridge, `meta nfproto ipv4 oifname "br0" counter`), named: rule("local", bridge)},
	{why: "a negation", do: replace("output", own, "meta skuid != @proxies return"), named: append(rule("output", own), "!= @proxies")},
	{why: "a user in place of a set", do: replace("output", own, "meta skuid 1337 return"), named: append(rule("output", own), "skuid 1337")},
	{why: "groups in place of users", do: replace("local", some, "meta skgid 1337 accept"), named: append(rule("local", some), "skgid 1337")},
	{why: "an interface", do: replace("output", stays, `oifname "eth0" return`), named: append(rule("output", stays), `"eth0"`)},
	{why: "the direction of an interface", do: replace("divert", inbound, `iif 1 meta l4proto tcp meta mark set mark and 0xfffff000 or 0x539 tproxy to :15006 accept`), named: rule("divert", inbound)},
	{why: "a wildcard is longer", do: replace("local", tunnel, `oifname "tun1*" return`), named: append(rule("local", tunnel), `"tun1\*"`)},
	{why: "a wildcard becomes a name", do: replace("local", tunnel, `oifname "tun" return`), named: append(rule("local", tunnel), `"tun"`)},
	{why: "a family", do: replace("local", bridge, `meta nfproto ipv6 oifname "br0" counter return`), named: append(rule("local", bridge), "ipv6")},
	{why: "a family goes", do: replace("local", bridge, `oifname "br0" counter return`), named: rule("local", bridge)},
	{why: "a host", do: replace("local", oneHost, "ip daddr 203.0.113.8 return"), named: append(rule("local", oneHost), `203\.0\.113\.8`)},
	{why: "source in place of destination", do: replace("local", oneHost, "ip saddr 203.0.113.9 return"), named: append(rule("local", oneHost), "saddr")},
	{why: "the length of a prefix", do: replace("local", network, "ip daddr != 172.16.0.0/13 tcp dport 8000-8100 return"), named: append(rule("local", network), "172.16.0.0/13")},
	{why: "the end of a range", do: replace("local", network, "ip daddr != 172.16.0.0/12 tcp dport 8000-8099 return"), named: append(rule("local", network), "8000-8099")},
	{why: "TCP becomes UDP", do: replace("local", network, "ip daddr != 172.16.0.0/12 udp dport 8000-8100 return"), named: append(rule("local", network), "udp dport")},
	{why: "a value of an anonymous set", do: replace("local", some, "tcp dport { 1, 2, 4 } accept"), named: append(rule("local", some), "1, 2, 4|1-2, 4")},
	{why: "an anonymous set is longer", do: replace("local", some, "tcp dport { 1, 2, 3, 4 } accept"), named: rule("local", some)},
	{why: "the port of a redirect", do: replace("to_proxy", listen, "meta l4proto tcp counter redirect to :15002"), named: append(rule("to_proxy", listen), "15002")},
	{why: "the port of a redirect goes", do: replace("to_proxy", listen, "meta l4proto tcp counter redirect"), named: rule("to_proxy", listen)},
	{why: "a redirect to one of many ports", do: replace("to_proxy", listen, "meta l4proto tcp counter redirect to :15001-15002"), named: rule("to_proxy", listen)},
	{why: "a redirect at random", do: replace("to_proxy", listen, "meta l4proto tcp counter redirect to :15001 random"), named: rule("to_proxy", listen)},
	{why: "dnat in place of redirect", do: replace("to_proxy", listen, "meta l4proto tcp counter dnat ip to 127.0.0.1:15001"), named: rule("to_proxy", listen)},
	{why: "a counter goes", do: replace("to_proxy", listen, "meta l4proto tcp redirect to :15001"), named: append(rule("to_proxy", listen), "want .*counter")},
	{why: "a counter comes", do: replace("output", own, "meta skuid @proxies counter return"), named: append(rule("output", own), "have .*counter")},
	{why: "a jump becomes a goto", do: replace("output", rest, "meta l4proto tcp goto to_proxy"), named: append(rule("output", rest), "goto to_proxy")},
	{why: "a jump elsewhere", do: replace("output", rest, "meta l4proto tcp jump counted"), named: append(rule("output", rest), "jump counted")},
	{why: "another map", do: replace("local", byMap, "tcp dport vmap { 9090 : accept }"), named: rule("local", byMap)},
	{why: "the value of a mark", do: replace("divert", has, "meta l4proto tcp socket transparent 1 meta mark set mark and 0xfffff000 or 0x53a accept"), named: append(rule("divert", has), "0x0000053a")},
	{why: "the mask of a mark", do: replace("divert", has, "meta l4proto tcp socket transparent 1 meta mark set mark and 0xffff0000 or 0x539 accept"), named: append(rule("divert", has), "0xffff0000")},
	{why: "a whole mark in place of bits", do: replace("divert", has, "meta l4proto tcp socket transparent 1 meta mark set 0x539 accept"), named: rule("divert", has)},
	{why: "the connection's mark in place of the packet's", do: replace("divert", has, "meta l4proto tcp socket transparent 1 ct mark set ct mark and 0xfffff000 or 0x539 accept"), named: append(rule("divert", has), "ct mark set")},
	{why: "the mask of a match", do: replace("divert", replies, "meta mark and 0xff == 0x39 return"), named: append(rule("divert", replies), "0x000000ff")},
	{why: "the value of a match", do: replace("divert", replies, "meta mark and 0xfff == 0x53a return"), named: append(rule("divert", replies), "0x0000053a")},
	{why: "what a mark is copied from", do: replace("restore", carries, "ct mark and 0xfff == 0x539 meta mark set ct mark and 0xff"), named: rule("restore", carries)},
	{why: "a transparent socket becomes any other", do: replace("divert", has, "meta l4proto tcp socket transparent 0 meta mark set mark and 0xfffff000 or 0x539 accept"), named: rule("divert", has)},
	{why: "the port of a tproxy", do: replace("divert", inbound, `iifname != "lo" meta l4proto tcp meta mark set mark and 0xfffff000 or 0x539 tproxy to :15007 accept`), named: append(rule("divert", inbound), "15007")},
	{why: "the address of a tproxy", do: replace("divert", inbound, `iifname != "lo" meta l4proto tcp meta mark set mark and 0xfffff000 or 0x539 tproxy ip to 127.0.0.1:15006 accept`), named: append(rule("divert", inbound), `127\.0\.0\.1`)},
	{why: "a tproxy goes", do: replace("divert", inbound, `iifname != "lo" meta l4proto tcp meta mark set mark and 0xfffff000 or 0x539 accept`), named: rule("divert", inbound)},
	{why: "a reason", do: []string{"nft replace rule inet weir output handle <" + own + `> meta skuid @proxies return comment "nobody knows why"`}, named: append(rule("output", own), "nobody knows why")},
	{why: "a reason goes", do: []string{"nft replace rule inet weir output handle <" + own + "> meta skuid @proxies return"}, named: rule("output", own)},

	// Words that weir itself never writes.
	{why: "a limit", do: replace("output", own, "meta skuid @proxies limit rate 1/second return"), named: append(rule("output", own), "unknown: limit")},
	{why: "a log", do: replace("output", own, "meta skuid @proxies log return"), named: append(rule("output", own), "unknown: log")},
	{why: "a quota", do: replace("output", own, "meta skuid @proxies quota over 1 mbytes return"), named: append(rule("output", own), "unknown: quota")},
	{why: "a ct status", do: replace("output", own, "meta skuid @proxies ct status dnat return"), named: append(rule("output", own), "unknown: ct")},
	{why: "a ct state", do: replace("output", own, "meta skuid @proxies ct state new return"), named: append(rule("output", own), "ct state")},
	{why: "a comparison", do: replace("output", rest, "tcp dport >= 80 jump to_proxy"), named: rule("output", rest)},
	{why: "bytes of a header", do: replace("local", oneHost, "@th,24,8 80 return"), named: rule("local", oneHost)},
	{why: "a mask that is not a prefix", do: replace("local", oneHost, "ip daddr and 255.0.0.255 == 203.0.0.9 return"), named: rule("local", oneHost)},
	{why: "an expression of iptables", by: xtMatch, named: []string{"chain local rule 7 should not be there", "unknown: match"}},
	{why: "tracing", do: replace("output", own, "meta skuid @proxies meta nftrace set 1 return"), named: rule("output", own)},
	{why: "a rewritten header", do: replace("local", oneHost, "ip daddr 203.0.113.9 ip dscp set cs1 return"), named: rule("local", oneHost)},
	{why: "a reject", do: replace("local", oneHost, "ip daddr 203.0.113.9 reject"), named: append(rule("local", oneHost), "unknown: reject")},
	{why: "a throw of dice", do: replace("output", own, "meta skuid @proxies numgen random mod 2 0 return"), named: rule("output", own)},
	{why: "a length of packets", do: replace("output", own, `meta skuid @proxies meta length 100 return`), named: rule("output", own)},
	{why: "a priority", do: replace("local", tunnel, `oifname "tun*" meta priority set 1:2 return`), named: rule("local", tunnel)},
	{why: "an element added by packets", do: replace("local", tunnel, `oifname "tun*" update @seen { ip daddr } return`), named: append(rule("local", tunnel), `update @seen { ip daddr }`)},
	{why: "a fib lookup", do: replace("local", tunnel, `oifname "tun*" fib daddr . oif type local return`), named: rule("local", tunnel)},

	// Sets and maps.
	{why: "an IPv4 prefix more", do: []string{"nft add element inet weir excluded_ipv4 { 172.31.0.0/16 }"}, named: []string{"set excluded_ipv4 element should not be there", `172\.31\.0\.0/16`}},
	{why: "an IPv4 prefix less", do: []string{"nft delete element inet weir excluded_ipv4 { 10.0.0.0/8 }"}, named: []string{"set excluded_ipv4 element is missing", `10\.0\.0\.0/8`}},
	{why: "a neighbour that merges", do: []string{"nft add element inet weir excluded_ipv4 { 11.0.0.0/8 }"}, named: []string{"set excluded_ipv4 element", `10\.0\.0\.0/7`}},
	{why: "a prefix is cut in two", do: []string{"nft delete element inet weir excluded_ipv4 { 10.0.0.0/8 }; add element inet weir excluded_ipv4 { 10.0.0.0/9, 10.128.0.1-10.255.255.255 }"}, named: []string{"set excluded_ipv4 element", `10\.0\.0\.0/9`}},
	{why: "an IPv6 prefix more", do: []string{"nft add element inet weir excluded_ipv6 { fd99::/16 }"}, named: []string{"set excluded_ipv6 element", "fd99::/16"}},
	{why: "all of an IPv6 set less", do: []string{"nft flush set inet weir excluded_ipv6"}, named: []string{"set excluded_ipv6 element is missing", "2001:db8:bad::/48"}},
	{why: "a port more", do: []string{"nft add element inet weir left_ports { 8443 }"}, named: []string{"set left_ports element", "8443"}},
	{why: "a user less", do: []string{"nft delete element inet weir proxies { 1500 }"}, named: []string{"set proxies element is missing", "1500"}},
	{why: "a comment on an element", do: []string{`nft delete element inet weir proxies { 1500 }; add element inet weir proxies { 1500 comment "who" }`}, named: []string{"set proxies element", "who"}},
	{why: "a catch-all element", since: [2]int{5, 13}, do: []string{"nft add element inet weir proxies { * }"}, named: []string{"set proxies"}},
	{why: "a set more", do: []string{"nft add set inet weir more { type ipv4_addr; }"}, named: []string{"set more should not be there"}},
	{why: "a map more", do: []string{"nft add map inet weir more { type ipv4_addr : mark; elements = { 1.2.3.4 : 5 }; }"}, named: []string{"(map|set) more should not be there"}},
	{why: "a set less, and its rule", do: []string{"nft delete rule inet weir output handle <" + own + ">; delete set inet weir proxies"}, named: append(rule("output", own), "set proxies is missing")},
	{why: "the flags of a set", do: []string{"rewrite type inet_service\n\t\tflags interval -> type inet_service\n\t\tflags interval,timeout"}, named: []string{"set left_ports", "timeout"}},
	{why: "a constant set", do: []string{"rewrite type inet_service\n\t\tflags interval -> type inet_service\n\t\tflags constant,interval"}, named: []string{"set left_ports", "constant"}},
	{why: "the timeout of a set", do: []string{"rewrite type uid\n -> type uid\n\t\ttimeout 5m\n"}, named: []string{"set proxies", "timeout 5m"}},
	{why: "the size of a set", do: []string{"rewrite type uid\n -> type uid\n\t\tsize 100\n"}, named: []string{"set proxies", "size 100"}},
	{why: "counters of a set", do: []string{"rewrite type uid\n -> type uid\n\t\tcounter\n"}, named: []string{"set proxies", "counter"}},
	{why: "the name of a set", do: []string{"rewrite proxies -> friends"}, named: []string{"set proxies is missing", "set friends should not be there"}},
	{why: "a live set becomes another", do: []string{"rewrite type ipv4_addr\n\t\ttimeout 1h -> type ipv6_addr\n\t\ttimeout 1h"}, named: []string{"set seen", "ipv6_addr"}},
	{why: "a live set goes", do: []string{"nft delete set inet weir seen"}, named: []string{"set seen is missing"}},
	{why: "a verdict of a map", do: []string{"nft delete element inet weir by_port { 9091 : return }; add element inet weir by_port { 9091 : accept }"}, named: []string{"map by_port element", "9091 : accept"}},
	{why: "where a map jumps to", do: []string{"rewrite 9090 : jump counted -> 9090 : goto counted"}, named: []string{"map by_port element", "9090 : goto counted"}},
	{why: "a verdict less", do: []string{"nft delete element inet weir by_port { 9090 : jump counted }"}, named: []string{"map by_port element is missing", "9090 : jump counted"}},
	{why: "a verdict more", do: []string{"nft add element inet weir by_port { 9092 : drop }"}, named: []string{"map by_port element should not be there", "9092 : drop"}},

	// Chains.
	{why: "a priority of a chain", do: []string{"rewrite hook output priority -100 -> hook output priority -99"}, named: []string{"chain output differs", "priority -99"}},
	{why: "a policy", do: []string{"nft chain inet weir local { policy drop; }"}, named: []string{"chain local differs", "policy drop"}},
	{why: "a hook", do: []string{"rewrite type filter hook output priority filter -> type filter hook postrouting priority filter"}, named: []string{"chain local differs", "hook postrouting"}},
	{why: "the type of a chain", do: []string{"rewrite type route hook output priority mangle -> type filter hook output priority mangle"}, named: []string{"chain restore differs", "type filter"}},
	{why: "a base chain becomes a regular one", do: []string{"rewrite type route hook output priority mangle; policy accept; -> "}, named: []string{"chain restore differs", "regular"}},
	{why: "a chain more", do: []string{"nft add chain inet weir more"}, named: []string{"chain more should not be there"}},
	{why: "a base chain more", do: []string{"nft add chain inet weir more { type filter hook input priority 0; policy drop; }"}, named: []string{"chain more should not be there", "hook input"}},
	{why: "a chain is renamed", do: []string{"nft rename chain inet weir to_proxy elsewhere"}, named: []string{"chain to_proxy is missing", "chain elsewhere should not be there"}},
	{why: "a chain less", do: []string{"nft delete chain inet weir restore"}, named: []string{"chain restore is missing"}},

	// The table.
	{why: "the table sleeps", do: []string{"nft add table inet weir { flags dormant; }"}, named: []string{"dormant"}},
	{why: "a named counter", do: []string{"nft add counter inet weir hits"}, named: []string{"object hits"}},
	{why: "a named quota", do: []string{"nft add quota inet weir much { over 1 mbytes; }"}, named: []string{"object much"}},
	{why: "a named limit, used", do: []string{"nft add limit inet weir slow { rate 1/second; }", `nft insert rule inet weir local limit name "slow" drop`}, named: []string{"object slow", "chain local rule 1", "objref"}},
	{why: "a ct helper", do: []string{`nft add ct helper inet weir ftp { type "ftp" protocol tcp; }`}, named: []string{"object ftp"}},
	{why: "a ct timeout", do: []string{`nft add ct timeout inet weir short { protocol tcp; policy = { established: 1 }; }`}, named: []string{"object short"}},
	{why: "the table is flushed", do: []string{"nft flush table inet weir"}, named: append(rule("output", own), rule("local", oneHost)...)},
	{why: "the table is deleted", do: []string{"nft delete table inet weir"}, named: []string{"table inet weir is missing"}},
	{why: "a table that a killed apply left", do: []string{`nft add table inet weir-next; add set inet weir-next tag { type mark; }; add element inet weir-next tag { 0x00000001 comment "weir 1 0123456789abcdef test" }`, "nft add chain inet weir-next c { type filter hook output priority 0; policy accept; }"}, named: []string{"table inet weir-next should not be there"}},

	// The tag.
	{why: "the tag goes", do: []string{"nft delete set inet weir tag"}, named: []string{"set tag is missing"}},
	{why: "the tag is empty", do: []string{"nft flush set inet weir tag"}, named: []string{"set tag is missing"}},
	{why: "the tag is garbled", do: []string{`nft flush set inet weir tag; add element inet weir tag { 0x00000001 comment "weir one two" }`}, named: []string{"set tag is missing"}},
	{why: "the tag says another state", do: []string{`nft flush set inet weir tag; add element inet weir tag { 0x00000001 comment "weir 1 0123456789abcdef test" }`}, named: []string{"set tag differs", "0123456789abcdef"}},
	{why: "the tag says no address", by: forgetAddress, named: []string{"set tag differs"}},
	{why: "there are two tags", do: []string{`nft add element inet weir tag { 0x00000063 comment "weir 1 0123456789abcdef test" }`}, named: []string{"set tag is missing"}},
	{why: "the tag tells of a chain that there is not", do: []string{`nft add element inet weir tag { 0x00000063 comment "part 01234567 chain nowhere" }`}, named: []string{"set tag differs"}},

	// Routing.
	{why: "a policy rule less", do: []string{"ip -4 rule del priority 32765"}, named: []string{"policy rule is missing", "ip rule add .*0x539.*lookup 133"}},
	{why: "an IPv6 policy rule less", do: []string{"ip -6 rule del priority 32765"}, named: []string{"policy rule is missing", "ip -6 rule add .*0x539.*lookup 133"}},
	{why: "the priority of a policy rule", do: []string{"ip rule del priority 32765", "ip rule add priority 100 fwmark 0x539/0xfff lookup 133 protocol 119"}, named: []string{"policy rule is missing", "policy rule should not be there", "priority 100"}},
	{why: "the table of a policy rule", do: []string{"ip rule del priority 32765", "ip rule add priority 32765 fwmark 0x539/0xfff lookup 134 protocol 119"}, named: []string{"policy rule should not be there", "lookup 134"}},
	{why: "the mask of a policy rule", do: []string{"ip rule del priority 32765", "ip rule add priority 32765 fwmark 0x539/0xff lookup 133 protocol 119"}, named: []string{"policy rule should not be there", "0x39/0xff|0x539/0xff"}},
	{why: "a policy rule for one interface", do: []string{"ip rule del priority 32765", "ip rule add priority 32765 fwmark 0x539/0xfff iif lo lookup 133 protocol 119"}, named: []string{"policy rule is missing", "policy rule should not be there"}},
	{why: "a policy rule for all others", do: []string{"ip rule del priority 32765", "ip rule add not fwmark 0x539/0xfff priority 32765 lookup 133 protocol 119"}, named: []string{"policy rule is missing", "policy rule should not be there"}},
	{why: "a policy rule that prohibits", do: []string{"ip rule del priority 32765", "ip rule add priority 32765 fwmark 0x539/0xfff prohibit protocol 119"}, named: []string{"policy rule is missing", "policy rule should not be there"}},
	{why: "a policy rule twice", by: twinRule, named: []string{"policy rule should not be there", "once more"}},
	{why: "a policy rule of our protocol elsewhere", do: []string{"ip rule add priority 50 fwmark 0x1/0x1 lookup 50 protocol 119"}, named: []string{"policy rule should not be there", "lookup 50"}},
	{why: "a route less", do: []string{"ip -4 route flush table 133"}, named: []string{"route is missing", "ip route add local default dev lo table 133"}},
	{why: "an IPv6 route less", do: []string{"ip -6 route flush table 133"}, named: []string{"route is missing", "ip -6 route add local default dev lo table 133"}},
	{why: "a route into a black hole", do: []string{"ip route replace blackhole default table 133 proto 119"}, named: []string{"route is missing", "route should not be there", "table 133"}},
	{why: "a route more, of our protocol", do: []string{"ip route add local 203.0.113.0/24 dev lo table 140 proto 119"}, named: []string{"route should not be there", "table 140"}},
	{why: "a route of our protocol, better", do: []string{"ip route add blackhole 10.0.0.0/8 table 133 proto 119"}, named: []string{"route should not be there", "10.0.0.0/8"}},
	{why: "an IPv6 route more, of our protocol", do: []string{"ip -6 route add local 2001:db8::/32 dev lo table 140 proto 119"}, named: []string{"route should not be there", "table 140"}},
	{why: "the address less", do: []string{"ip addr del ::6/128 dev lo"}, named: []string{"address is missing", "::6/128"}},

	{why: "everything is flushed", do: []string{"nft flush ruleset", "ip route flush table 133", "ip -6 route flush table 133", "ip rule flush protocol 119", "ip -6 rule flush protocol 119", "ip addr del ::6/128 dev lo"},
		named: []string{"table inet weir is missing", "policy rule is missing", "route is missing", "address is missing"}},
}

// TestDrift does each of these to a namespace that holds everything. Verify
// finds and names it, with the configuration at hand and, in short, without;
// apply mends it and leaves what others have. In short, every seventh is done: the list goes
// by subject.
func TestDrift(t *testing.T) {
	want := everything()
	for i, tt := range drifts {
		if testing.Short() && i%7 != 0 {
			continue
		}
		t.Run(tt.why, func(t *testing.T) {
			if !linux(t, tt.since[0], tt.since[1]) {
				t.Skipf("needs Linux %d.%d for %s", tt.since[0], tt.since[1], tt.why)
			}
			n := newNamespace(t)
			n.nft(kubeProxyLike)
			n.ip("rule add priority 77 fwmark 0x7 lookup 77")
			s := n.session()
			apply(t, s, want, nft.Created)
			foreign, routing := n.foreign(), n.routing()

			n.disturb(tt)

			said := verify(t, s, want)
			for _, name := range tt.named {
				if !regexp.MustCompile(name).MatchString(said) {
					t.Errorf("verify does not name %q:\n%s", name, said)
				}
			}
			live, err := n.conn().Read(context.Background(), tableName)
			if err != nil {
				t.Fatal(err)
			}
			if d, err := live.Drift(); err == nil && len(d) == 0 && live.State.Table != nil {
				t.Error("without a configuration nothing is found")
			}
			if _, err := s.Apply(context.Background(), want); err != nil {
				t.Fatalf("apply: %v", err)
			}
			wantClean(t, n.session(), want)
			apply(t, n.session(), want, nft.Unchanged)
			if d := changed(foreign, n.foreign()); d != "" && !slices.Contains(tt.do, "nft flush ruleset") {
				t.Errorf("another's changed:\n%s", d)
			}
			if d := changed(routing, n.routing()); d != "" {
				t.Errorf("the routing changed:\n%s", d)
			}
			if tables := n.tables(); len(tables) != 1 {
				t.Errorf("there are tables %v", tables)
			}
		})
	}
}

// TestNoDrift does what is none.
func TestNoDrift(t *testing.T) {
	want := everything()
	for _, tt := range []drift{
		{why: "nft's own listing is loaded", do: []string{"rewrite  -> "}},
		{why: "a live element", do: []string{"nft add element inet weir seen { 192.0.2.77 timeout 1m }"}},
		{why: "counters count", by: func(n *namespace) { n.outside(); n.connect("203.0.113.77:80") }},
		{why: "another's table", do: []string{"nft add table ip mine; add chain ip mine c { type filter hook input priority 0; }"}},
		{why: "another's table of our name", do: []string{"nft add table ip weir; add chain ip weir output; add set ip weir tag { type mark; }"}},
		{why: "another's routing", do: []string{"ip rule add priority 10 fwmark 0x10/0x10 lookup 10", "ip route add blackhole default table 10", "ip addr add 127.9.9.9/32 dev lo"}},
		{why: "another's route in our table", do: []string{"ip route add blackhole 192.0.2.0/24 table 133"}},
		{why: "an equal policy rule of another's besides", by: func(n *namespace) { addRule(n, unix.RTPROT_BOOT) }},
	} {
		t.Run(tt.why, func(t *testing.T) {
			n := newNamespace(t)
			s := n.session()
			apply(t, s, want, nft.Created)
			n.disturb(tt)
			wantClean(t, s, want)
			live, err := n.conn().Read(context.Background(), tableName)
			if err != nil {
				t.Fatal(err)
			}
			if d, err := live.Drift(); err != nil || len(d) > 0 {
				t.Errorf("without a configuration: %v, %v", d, err)
			}
			before := n.nft("list ruleset") + n.routing()
			apply(t, s, want, nft.Unchanged)
			if d := changed(before, n.nft("list ruleset")+n.routing()); d != "" {
				t.Errorf("changed:\n%s", d)
			}
		})
	}
}

// disturb does what a drift is.
func (n *namespace) disturb(d drift) {
	n.Helper()
	if d.by != nil {
		d.by(n)
	}
	for _, line := range d.do {
		verb, args, _ := strings.Cut(line, " ")
		switch verb {
		case "ip":
			n.ip(args)
		case "nft":
			n.nft(regexp.MustCompile(`<[^>]*>`).ReplaceAllStringFunc(args, func(reason string) string { return n.handle(strings.Trim(reason, "<>")) }))
		case "rewrite":
			before, after, _ := strings.Cut(args, " -> ")
			text := n.must("list table inet "+tableName, "nft", "-f", "-")
			if !strings.Contains(text, before) {
				n.Fatalf("there is no %q in\n%s", before, text)
			}
			n.nft("delete table inet " + tableName + "\n" + strings.ReplaceAll(text, before, after))
		default:
			n.Fatalf("%q is not a line of a drift", line)
		}
	}
}

// xtMatch adds a rule with a match of iptables', as iptables-nft writes them.
func xtMatch(n *namespace) {
	c, err := nftables.New(nftables.WithNetNSFd(int(n.file.Fd())))
	if err != nil {
		n.Fatal(err)
	}
	table := &nftables.Table{Name: tableName, Family: nftables.TableFamilyINet}
	c.AddRule(&nftables.Rule{Table: table, Chain: &nftables.Chain{Table: table, Name: "local"}, Exprs: []expr.Any{
		&expr.Match{Name: "pkttype", Info: ptr(xt.Unknown{0, 0, 0, 0, 0, 0, 0, 0})},
	}})
	if err := c.Flush(); err != nil {
		n.Fatal(err)
	}
}

func ptr[T any](v T) *T { return &v }

// forgetAddress takes the address that was added out of the tag.
func forgetAddress(n *namespace) {
	added := regexp.MustCompile(`(0x[0-9a-f]{8}) comment "added `).FindStringSubmatch(n.nft("list set inet weir tag"))
	if added == nil {
		n.Fatal("the tag names no added address")
	}
	n.nft(`delete element inet weir tag { ` + added[1] + ` }`)
}

func twinRule(n *namespace) { addRule(n, reserved.RouteProtocol) }

// addRule adds a policy rule equal to ours, as ip(8) does not: it looks first.
func addRule(n *namespace, protocol uint8) {
	priority, mark, mask, table := uint32(rulePriority), uint32(divertMark), uint32(markMask), uint32(divertTable)
	payload, err := (&rtnetlink.RuleMessage{Family: unix.AF_INET, Action: unix.FR_ACT_TO_TBL, Attributes: &rtnetlink.RuleAttributes{
		Priority: &priority, FwMark: &mark, FwMask: &mask, Table: &table, Protocol: &protocol,
	}}).MarshalBinary()
	if err != nil {
		n.Fatal(err)
	}
	c, err := netlink.Dial(unix.NETLINK_ROUTE, &netlink.Config{NetNS: int(n.file.Fd())})
	if err != nil {
		n.Fatal(err)
	}
	defer c.Close()
	_, err = c.Execute(netlink.Message{Header: netlink.Header{Type: unix.RTM_NEWRULE, Flags: netlink.Request | netlink.Acknowledge | netlink.Create}, Data: payload})
	if err != nil {
		n.Fatal(err)
	}
}
