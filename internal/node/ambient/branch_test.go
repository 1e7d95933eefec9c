// SPDX-License-Identifier: Apache-2.0

//go:build linux

package ambient_test

import (
	"context"
	"net/netip"
	"os/exec"
	"strings"
	"testing"

	"github.com/weir-mesh/weir/internal/node/ambient"
	"github.com/weir-mesh/weir/internal/scratch"
	"github.com/weir-mesh/weir/internal/zds"
	"github.com/weir-mesh/weir/netns"
)

// amazon is what Amazon's plugin leaves on a node for a pod with a branch interface: a table for each, that what the
// pod and the branch interface bring is looked up in, before table local.
const amazon = `ip link set lo up
ip address add 192.0.2.1/32 dev lo
ip link add vlan.eth.1 type veth peer name vpc
ip link set vlan.eth.1 up; ip link set vpc up
ip rule add iif vlan.eth.1 lookup 101 priority 10
ip rule add iif vlanpod lookup 101 priority 10
ip rule add lookup local priority 20
ip rule del priority 0
ip route add 10.88.0.2 dev vlanpod table 101
ip route add default dev vlan.eth.1 table 101
ip route add default dev vlan.eth.1`

// TestBranch: where Amazon's plugin gave a pod an interface of its own, and is set up for probes, the node's own
// connections reach it; nothing is changed elsewhere, and nothing stays when the pod goes.
func TestBranch(t *testing.T) {
	for _, program := range []string{"ip", "sysctl", "bash"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip(err)
		}
	}
	host, pod := scratch.ForTest(t), scratch.ForTest(t)
	open := func(path string) *netns.Namespace {
		ns, err := netns.Open(path)
		scratch.Must(t, err)
		t.Cleanup(ns.Close)
		return ns
	}
	sh := func(ns *scratch.Namespace, script string) (out string) {
		t.Helper()
		scratch.Must(t, ns.Do(func() error {
			text, err := exec.Command("sh", "-ec", script).CombinedOutput()
			if out = string(text); err != nil {
				t.Logf("%s", text)
			}
			return err
		}))
		return out
	}
	scratch.Must(t, scratch.Veth(host, "vlanpod", pod, "eth0"), host.Up("vlanpod"), pod.Up("eth0"))
	sh(host, amazon)
	// As Amazon's plugin does: the way out is an address that is no interface's, and its link address is written down.
	gateway := strings.Fields(sh(host, "ip -br link show vlanpod | awk '{print $3}'"))[0]
	sh(pod, "ip link set lo up; ip address add 10.88.0.2/32 dev eth0; ip route add 169.254.1.1 dev eth0; ip route add default via 169.254.1.1; ip neigh add 169.254.1.1 lladdr "+gateway+" nud permanent dev eth0")

	side := ambient.New(ambient.Options{Host: open(host.Path()), Proxy: zds.New(zds.Options{}), Settings: ambient.Settings{}})
	member := ambient.Pod{Workload: zds.Workload{UID: "u1", Name: "one", Namespace: "mesh"}, Addresses: []netip.Addr{netip.MustParseAddr("10.88.0.2")}}
	ours := func() string {
		var lines []string
		for line := range strings.Lines(sh(host, "ip -N rule")) {
			if strings.Contains(line, "proto 120") {
				lines = append(lines, strings.Join(strings.Fields(line), " "))
			}
		}
		return strings.Join(lines, "\n")
	}
	mend := func() {
		t.Helper()
		_, err := side.Mend(t.Context())
		scratch.Must(t, err)
	}
	server, err := scratch.Listeners{Name: "app", TCP: []uint16{8080}}.Serve(context.Background(), pod)
	scratch.Must(t, err)
	t.Cleanup(func() { scratch.Must(t, server.Close()) })
	scratch.Must(t, side.Prepare(member, open(pod.Path())))
	mend()
	if got := ours(); got != "" {
		t.Errorf("where Amazon's plugin is not set up for it there is\n%s", got)
	}
	sh(host, "! timeout 1 bash -c 'echo > /dev/tcp/10.88.0.2/8080' 2>/dev/null")
	sh(host, "sysctl -qw net.ipv4.tcp_early_demux=0")
	mend()
	const want = "9: from all iif vlanpod lookup 255 proto 120\n512: from all to 10.88.0.2 lookup 101 proto 120"
	if got := ours(); got != want {
		t.Errorf("there is\n%s\nwant\n%s", got, want)
	}
	sh(host, "timeout 5 bash -c 'echo > /dev/tcp/10.88.0.2/8080'")

	sh(host, "ip rule del priority 9")
	mend()
	if got := ours(); got != want {
		t.Errorf("after one was deleted there is\n%s", got)
	}
	scratch.Must(t, side.Release(t.Context(), "u1"))
	if got := ours(); got != "" {
		t.Errorf("after the pod left there is\n%s", got)
	}
	if got := sh(host, "ip rule"); !strings.Contains(got, "iif vlanpod lookup 101") {
		t.Errorf("Amazon's own rule has gone:\n%s", got)
	}
}
