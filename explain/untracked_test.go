// SPDX-License-Identifier: Apache-2.0

//go:build linux

package explain

import (
	"strings"
	"testing"

	"github.com/weir-mesh/weir/modes"
)

// TestUntrackedAnswers explains later packets of connections: without connection tracking nothing but
// the packet itself says whose they are.
func TestUntrackedAnswers(t *testing.T) {
	config := modes.Config{
		Mode: modes.ModeSidecar, Conntrack: "none", Proxy: modes.Proxy{Mark: "0x53d/0xfff"},
		Inbound:  modes.Inbound{Via: "tproxy", ExcludePorts: []modes.PortWord{"15020"}},
		Outbound: modes.Outbound{Via: "tproxy"},
	}
	want, err := RulesOf(config, modes.Environment{IPv6: true, LoopbackIPv6: true})
	if err != nil {
		t.Fatal(err)
	}
	pod, err := ParsePod("eth0=10.244.1.5/24", "eth0=fd00:10::5/64")
	if err != nil {
		t.Fatal(err)
	}
	explainer := want.In(pod)
	const mark, established = "0x53d", "established"
	for _, f := range []struct{ name, pod, client, passthrough string }{
		{"IPv4", "10.244.1.5", "203.0.113.7", "127.0.0.6"},
		{"IPv6", "[fd00:10::5]", "[2001:db8::7]", "[::6]"},
	} {
		for _, tt := range []struct {
			why  string
			ask  Request
			says string
			by   string
		}{
			{"the proxy answers a client of the pod", Request{Packet: "tcp " + f.client + ":40000", From: f.pod + ":8080", Mark: mark, State: established},
				"left alone: leaves by eth0", "the proxy's own traffic is not captured"},
			{"it answers by a cookie too, which no socket sends", Request{Packet: "tcp " + f.client + ":40000", From: f.pod + ":8080", Mark: mark},
				"left alone: leaves by eth0", "the proxy's own traffic is not captured"},
			{"the tunnel listener answers", Request{Packet: "tcp " + f.client + ":40000", From: f.pod + ":15008", Mark: mark, State: established},
				"left alone: leaves by eth0", "the proxy's own traffic is not captured"},
			{"an excluded port answers", Request{Packet: "tcp " + f.client + ":40000", From: f.pod + ":15020", State: established},
				"left alone: leaves by eth0", "an answer from a port that is not captured goes as it is"},
			{"a connection from an excluded port is no answer", Request{Packet: "tcp " + f.client + ":443", From: f.pod + ":15020"},
				"captured: lands on the outbound listener", "the connection's socket takes it, else the outbound listener"},
			{"the application answers the proxy, which has the client's address", Request{Packet: "tcp " + f.client + ":40000", From: f.pod + ":8080", State: established},
				"captured: lands on the outbound listener", "the connection's socket takes it, else the outbound listener"},
			{"the application answers the proxy's passthrough address", Request{Packet: "tcp " + f.passthrough + ":40000", From: f.pod + ":8080", State: established},
				"left alone: delivered to", "the application's calls to its own pod stay as they are"},
			{"the proxy answers the application, as who was called", Request{Packet: "tcp " + f.pod + ":40000", From: f.client + ":443", Mark: mark, State: established},
				"left alone: delivered to", "the proxy answers, or speaks with another's address"},
			{"a client's next packet: whose socket there is decides", Request{Packet: "tcp " + f.pod + ":8080", In: "eth0", From: f.client + ":40000", State: established},
				"unknown from here: chain prerouting rule 4: which sockets are open", ""},
		} {
			t.Run(f.name+" "+tt.why, func(t *testing.T) {
				p, err := tt.ask.Parse()
				if err != nil {
					t.Fatal(err)
				}
				a := explainer.Explain(p)
				if !strings.HasPrefix(a.Says, tt.says) || a.Decision().Reason != tt.by {
					t.Errorf("%q, by %q; want %q, by %q", a.Says, a.Decision().Reason, tt.says, tt.by)
				}
			})
		}
	}
}
