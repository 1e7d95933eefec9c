// SPDX-License-Identifier: Apache-2.0

//go:build linux

package integration

import (
	"net/netip"
	"testing"

	"github.com/weir-mesh/weir/internal/scratch"
)

// TestMeshKeys: real packets in the modes that the tables of other meshes do not reach, for each key that those
// meshes' configurations ask for.
func TestMeshKeys(t *testing.T) {
	t.Parallel()
	needUsers(t)
	const ambient = "mode: ambient-pod\nipv6: enabled\n"
	apply, inPod := []string{"apply", "-f", "-"}, []string{"ambient", "-f", "-"}
	type packet struct {
		from, proto string
		uid         uint32
		to, land    string
	}
	sidecar := func(proxy, inbound, rest string) string {
		return "mode: sidecar\nipv6: enabled\nproxy: {uids: [1337]" + proxy + "}\ninbound: {via: tproxy" + inbound + "}\n" + rest
	}
	for _, tt := range []struct {
		why, config string
		args        []string
		want        []packet
	}{
		{"by tproxy, a source is left alone", sidecar("", `, excludeSources: [198.18.1.0/24, "2001:db8:19::/64"]`, ""), apply, []packet{
			{"peer", "tcp", 1000, "198.18.0.2:80", "pod:15006"}, {"peer", "tcp", 1000, "198.18.1.2:80", "pod:80"},
			{"peer", "tcp", 1000, "[2001:db8:18::2]:80", "pod:15006"}, {"peer", "tcp", 1000, "[2001:db8:19::2]:80", "pod:80"}}},
		{"by tproxy, the proxy's calls to its own pod are captured", sidecar("", "", ""), apply, []packet{
			{"pod", "tcp", 1337, "198.18.0.2:80", "pod:15006"}, {"pod", "tcp", 1000, "198.18.0.2:80", "pod:80"}}},
		{"or left alone, and the application's are captured", sidecar(", ownCalls: left", "", "outbound: {ownPod: captured}\n"), apply, []packet{
			{"pod", "tcp", 1337, "198.18.0.2:80", "pod:80"}, {"pod", "tcp", 1000, "198.18.0.2:80", "pod:15001"},
			{"pod", "tcp", 1000, "[2001:db8:18::2]:80", "pod:15001"}}},
		{"an ambient pod leaves a source alone, and has no tunnel", ambient + "inbound: {excludeSources: [198.18.1.0/24], tunnelPort: none}\n", inPod, []packet{
			{"peer", "tcp", 1000, "198.18.0.2:80", "pod:15006"}, {"peer", "tcp", 1000, "198.18.1.2:80", "pod:80"},
			{"peer", "tcp", 1000, "198.18.0.2:15008", "pod:15006"}, {"peer", "tcp", 1000, "[2001:db8:19::2]:80", "pod:15006"}}},
		{"its tunnel may have several ports", ambient + "inbound: {tunnelPort: 15007-15009}\n", inPod, []packet{
			{"peer", "tcp", 1000, "198.18.0.2:15008", "pod:15008"}, {"peer", "tcp", 1000, "198.18.0.2:15020", "pod:15006"}}},
		{"its own calls are captured", ambient + "outbound: {ownPod: captured}\n", inPod, []packet{
			{"pod", "tcp", 1000, "198.18.0.2:80", "pod:15001"}, {"pod", "tcp", 1000, "127.0.0.1:80", "pod:80"}}},
		{"it leaves traffic alone by user, protocol and port", ambient + "outbound: {exclude: [{uids: [3-5], protocol: tcp, ports: [80, 8000-9000]}, {uids: [7], protocol: udp}]}\ndns: {capture: all}\n", inPod, []packet{
			{"pod", "tcp", 3, "9.9.9.9:80", "peer:7000"}, {"pod", "tcp", 5, "9.9.9.9:8080", "peer:7000"}, {"pod", "tcp", 6, "9.9.9.9:80", "pod:15001"},
			{"pod", "tcp", 3, "9.9.9.9:443", "pod:15001"}, {"pod", "udp", 7, "10.96.0.10:53", "peer:7000"}, {"pod", "udp", 3, "10.96.0.10:53", "pod:15053"},
			{"pod", "tcp", 7, "10.96.0.10:53", "pod:15053"}}},
		{"its queries are captured over one protocol, and not to an excluded destination", ambient + "outbound: {excludeCIDRs: [10.96.0.0/16]}\ndns: {capture: all, protocols: [udp], exclusions: all, zones: disabled}\n", inPod, []packet{
			{"pod", "udp", 1000, "10.96.0.10:53", "peer:7000"}, {"pod", "udp", 1000, "9.9.9.9:53", "pod:15053"}, {"pod", "tcp", 1000, "9.9.9.9:53", "pod:15001"}}},
		{"or before anything is left alone", ambient + "outbound: {excludeUIDs: [1000]}\ndns: {capture: all, exclusions: none}\n", inPod, []packet{
			{"pod", "udp", 1000, "9.9.9.9:53", "pod:15053"}, {"pod", "tcp", 1000, "9.9.9.9:53", "pod:15053"}, {"pod", "tcp", 1000, "9.9.9.9:80", "peer:7000"}}},
		{"another server answers them", ambient + "dns: {capture: all, to: [\"198.18.0.2:53\"]}\n", inPod, []packet{
			{"pod", "udp", 1000, "9.9.9.9:53", "pod:53"}, {"pod", "tcp", 1000, "9.9.9.9:53", "pod:53"}, {"pod", "udp", 1000, "[2001:db8:99::9]:53", "peer:7000"}}},
		{"a sidecar's too, while zones keep the proxy's apart", "mode: sidecar\nipv6: enabled\nproxy: {uids: [1337]}\ndns: {capture: all, to: [\"198.18.0.2:53\", \"[2001:db8:18::2]:53\"]}\n", apply, []packet{
			{"pod", "udp", 1000, "9.9.9.9:53", "pod:53"}, {"pod", "udp", 1000, "[2001:db8:99::9]:53", "pod:53"}, {"pod", "udp", 1337, "9.9.9.9:53", "peer:7000"}}},
		{"an ambient pod's rerouted interface: destinations that come in, and queries", ambient + "interfaces: {reroute: [{name: eth1, excludeCIDRs: [9.9.0.0/16], dns: enabled, family: ipv4}]}\n", inPod, []packet{
			{"peer", "tcp", 1000, "10.4.5.6:80", "pod:15001"}, {"peer", "tcp", 1000, "9.9.9.9:80", "pod:15006"}, {"peer", "udp", 1000, "10.4.5.6:53", "pod:15053"},
			{"peer", "tcp", 1000, "[2001:db8:99::9]:80", "pod:15006"}}},
	} {
		t.Run(tt.why, func(t *testing.T) {
			t.Parallel()
			pod := capturedPod(t, scratch.Identity{UID: 1337, GID: 1337}, nil, tt.config, tt.args...)
			for _, p := range tt.want {
				dst := netip.MustParseAddrPort(p.to)
				pod.lands(scratch.Probe{ID: p.from + " " + p.proto + " " + p.to, Namespace: p.from, Proto: p.proto, UID: p.uid, GID: 1000, Dst: dst.Addr(), DPort: dst.Port()}, p.land)
			}
		})
	}
}
