// SPDX-License-Identifier: Apache-2.0

//go:build linux

package integration

import (
	"net/netip"
	"testing"

	"github.com/weir-mesh/weir/internal/scratch"
)

// TestRerouteExclusions: what comes from a rerouted interface is outbound, and what is
// excluded of outbound stays alone there too, in both families and modes. Where the
// exclusions are ignored, as istio-init's reference does, they count for nothing.
func TestRerouteExclusions(t *testing.T) {
	t.Parallel()
	needUsers(t)
	sidecar := "version: 1\nmode: sidecar\nproxy: {uids: [1337]}\n"
	ambient := "version: 1\nmode: ambient-pod\nipv6: enabled\n"
	const excluding = "outbound: {excludeCIDRs: [9.9.0.0/16, \"2001:db8:99::9\"], excludePorts: [22]}\n"
	const captured, alone, alone6 = "pod:15001", "timeout", "refused" // as in the tables of the reference, without rules
	type machine map[string]string                                    // where a virtual machine's connection lands, by its destination
	for _, tt := range []struct {
		why   string
		stdin string
		args  []string
		want  machine
	}{
		{"a sidecar's exclusions count", sidecar + excluding + "interfaces: {reroute: [eth1]}\n", []string{"apply", "-f", "-"}, machine{
			"10.4.5.6:80": captured, "10.4.5.6:22": alone, "9.9.9.9:80": alone, "[2001:db8:99::8]:80": captured, "[2001:db8:99::8]:22": alone6, "[2001:db8:99::9]:80": alone6}},
		{"a wildcard's too", sidecar + excluding + "interfaces: {reroute: [eth1*]}\n", []string{"apply", "-f", "-"}, machine{
			"10.4.5.6:80": captured, "10.4.5.6:22": alone, "9.9.9.9:80": alone}},
		{"a sidecar's included ports count, whatever the destination",
			sidecar + "outbound: {includeCIDRs: [9.9.0.0/16], includePorts: [443], excludeCIDRs: [9.9.1.0/24]}\ninterfaces: {reroute: [{name: eth1}]}\n", []string{"apply", "-f", "-"},
			machine{"10.4.5.6:443": captured, "10.4.5.6:80": alone, "9.9.9.9:80": captured, "9.9.1.1:443": alone, "[2001:db8:99::8]:443": captured, "[2001:db8:99::8]:80": alone6}},
		{"they may be ignored", sidecar + excluding + "interfaces: {reroute: [{name: eth1, exclusions: ignored}]}\n", []string{"apply", "-f", "-"}, machine{
			"10.4.5.6:22": captured, "9.9.9.9:80": captured, "[2001:db8:99::9]:22": captured}},
		{"a name counts before a wildcard", sidecar + excluding + "interfaces: {reroute: [{name: \"eth*\", exclusions: ignored}, eth1]}\n", []string{"apply", "-f", "-"}, machine{
			"10.4.5.6:80": captured, "9.9.9.9:80": alone}},
		{"a flag says so too", sidecar + excluding, []string{"apply", "-f", "-", "--interfaces-reroute", "{name: eth1, exclusions: ignored}"}, machine{
			"9.9.9.9:80": captured}},
		{"an ambient pod's exclusions count", ambient + excluding + "interfaces: {reroute: [eth1]}\n", []string{"ambient", "-f", "-"}, machine{
			"10.4.5.6:80": captured, "10.4.5.6:22": alone, "9.9.9.9:80": alone, "[2001:db8:99::8]:80": captured, "[2001:db8:99::9]:80": alone6}},
		{"an ambient pod may ignore them", ambient + excluding + "interfaces: {reroute: [{name: eth1, exclusions: ignored}]}\n", []string{"ambient", "-f", "-"}, machine{
			"10.4.5.6:22": captured, "9.9.9.9:80": captured, "[2001:db8:99::9]:80": captured}},
		{"istio-init ignores them, as its reference does", "",
			[]string{"istio-init", "-u", "1337", "-i", "*", "-x", "9.9.0.0/16", "-o", "22", "-k", "eth1", "--dual-stack"}, machine{
				"10.4.5.6:22": captured, "9.9.9.9:80": captured}},
	} {
		t.Run(tt.why, func(t *testing.T) {
			t.Parallel()
			pod := capturedPod(t, scratch.Identity{UID: 1337, GID: 1337}, nil, tt.stdin, tt.args...)
			for to, land := range tt.want {
				dst := netip.MustParseAddrPort(to)
				p := scratch.Probe{ID: to, Namespace: "peer", Proto: "tcp", UID: 1000, GID: 1000, Dst: dst.Addr(), DPort: dst.Port()}
				if land == alone {
					pod.loses(p)
				} else {
					pod.lands(p, land)
				}
			}
		})
	}
}
