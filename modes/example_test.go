// SPDX-License-Identifier: Apache-2.0

package modes_test

import (
	"fmt"

	"github.com/weir-mesh/weir/modes"
)

// A configuration of a program becomes the ruleset of a namespace.
func ExampleState() {
	config := modes.Config{
		Mode:     modes.ModeAmbientPod,
		IPv6:     "disabled",
		Proxy:    modes.Proxy{Mark: modes.MaskedMark(0x539, 0xfff)},
		Inbound:  modes.Inbound{Via: "none"},
		Outbound: modes.Outbound{Port: modes.Port(15001), ExcludePorts: append(modes.Ports(22, 25), modes.PortRange(8000, 8100))},
	}
	state, notes, err := modes.State(config, modes.Environment{})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, n := range notes {
		fmt.Println("note:", n)
	}
	fmt.Print(state)
	// Output:
	// table inet weir
	// delete table inet weir
	// table inet weir {
	// 	set open_ipv4 {
	// 		type ipv4_addr . inet_service . ipv4_addr . inet_service
	// 		flags timeout
	// 		gc-interval 1h
	// 		comment "changes at run time"
	// 	}
	//
	// 	set outbound_exclude_ports {
	// 		type inet_service
	// 		flags interval
	// 		elements = {
	// 			22, 25, 8000-8100
	// 		}
	// 	}
	//
	// 	chain mangle_prerouting {
	// 		type filter hook prerouting priority -150; policy accept;
	// 		meta nfproto ipv6 counter return comment "IPv6 is off in this configuration: left alone"
	// 		meta mark & 0x00000fff == 0x00000539 counter ct mark set ct mark & 0xfffff000 | 0x00000111 comment "a connection that the proxy opened to the application is remembered"
	// 	}
	//
	// 	chain mangle_output {
	// 		type route hook output priority -150; policy accept;
	// 		meta nfproto ipv6 counter return comment "IPv6 is off in this configuration: left alone"
	// 		ct mark & 0x00000fff == 0x00000111 counter meta mark set meta mark & 0xfffff000 | 0x00000111 comment "the application's answer goes back through the proxy"
	// 	}
	//
	// 	chain output {
	// 		type nat hook output priority -100; policy accept;
	// 		meta nfproto ipv6 counter return comment "IPv6 is off in this configuration: left alone"
	// 		tcp flags & (fin | syn | rst | ack) != syn ip saddr . tcp sport . ip daddr . tcp dport @open_ipv4 counter return comment "a connection that was open before the first apply stays as it is"
	// 		tcp dport @outbound_exclude_ports counter return comment "an excluded outbound port is left alone"
	// 		meta l4proto tcp ip daddr 169.254.7.127 counter return comment "answers to the kubelet's probes stay as they are"
	// 		meta l4proto tcp meta mark & 0x00000fff == 0x00000111 counter return comment "the application's answer goes back through the proxy"
	// 		oifname "lo" ip daddr != 127.0.0.1 counter return comment "the application's calls to its own pod stay as they are"
	// 		meta l4proto tcp ip daddr != 127.0.0.1 meta mark & 0x00000fff != 0x00000539 counter redirect to :15001 comment "all other TCP goes to the outbound listener"
	// 	}
	//
	// 	chain postrouting {
	// 		type nat hook postrouting priority 99; policy accept;
	// 		meta nfproto ipv6 counter return comment "IPv6 is off in this configuration: left alone"
	// 		oifname != "lo" ip daddr 127.0.0.1 meta l4proto { tcp, udp } counter drop comment "what is redirected never leaves this pod: a socket that is bound to an interface cannot reach the proxy"
	// 	}
	// }
	// # ip route add local default dev lo table 100 protocol 119
	// # ip rule add priority 32764 fwmark 0x111/0xfff lookup 100 protocol 119
}

// Every problem of a configuration is a value by itself.
func ExampleProblems() {
	config := modes.Config{
		Mode:     modes.ModeSidecar,
		Proxy:    modes.Proxy{UIDs: modes.IDs(1337)},
		Outbound: modes.Outbound{Port: modes.Port(0), ExcludeCIDRs: []string{"10.0.0.0/33"}},
		Routing:  modes.Routing{Mark: modes.MaskedMark(0x1000, 0xfff)},
	}
	_, _, err := modes.State(config, modes.Environment{})
	for _, p := range modes.Problems(err) {
		fmt.Printf("%s: %q\n", p.Key, p.Word)
	}
	// Output:
	// outbound.port: "0"
	// outbound.excludeCIDRs: "10.0.0.0/33"
	// routing.mark: "0x1000/0xfff"
}
