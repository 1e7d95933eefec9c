// SPDX-License-Identifier: Apache-2.0

//go:build linux

package integration

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const debianPlugins = "/usr/lib/cni"

// labList is a list of a primary plugin that gives addresses of both families.
func labList(version, kind, extra string) string {
	return fmt.Sprintf(`{
  "cniVersion": %q,
  "name": "lab",
  "plugins": [
    {
      "type": %q,%s
      "ipam": {
        "type": "host-local",
        "ranges": [[{"subnet": "10.77.0.0/24"}], [{"subnet": "fd77::/64"}]],
        "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
        "dataDir": "/run/cni/host-local"
      }
    }
  ]
}
`, version, kind, extra)
}

// captureLab is the annotations of a pod that checkCaptured expects.
var captureLab = map[string]string{
	"sidecar.istio.io/status":                       istioStatus,
	"traffic.sidecar.istio.io/excludeOutboundPorts": "3306",
	"traffic.sidecar.istio.io/excludeInboundPorts":  "8081",
}

// cniResult is the addresses of a result.
type cniResult struct {
	IPs []struct{ Address, Gateway string }
}

func (r cniResult) pods() (gateways, pods []string) {
	for _, ip := range r.IPs {
		address, _, _ := strings.Cut(ip.Address, "/")
		gateways, pods = append(gateways, ip.Gateway), append(pods, address)
	}
	return gateways, pods
}

// TestCNITool: libcni, as runtimes use it, with Debian's plugins: install, ADD, real connections, CHECK,
// drift, DEL twice, and a failing ADD that leaves nothing.
func TestCNITool(t *testing.T) {
	tool(t, filepath.Join(debianPlugins, "ptp"), "containernetworking-plugins")
	l := newNodeLab(t)
	l.installPlugins(debianPlugins, "ptp", "host-local")
	cnitool := filepath.Join(l.dir, "bin", "cnitool")
	if out, err := exec.Command("go", "build", "-o", cnitool, "github.com/containernetworking/cni/cnitool").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	l.write("net.d/10-lab.conflist", labList("1.0.0", "ptp", ""))
	l.run("weir", "cni", "install", "--bin-dir", filepath.Join(l.dir, "cni"), "--conf-dir", filepath.Join(l.dir, "net.d"))
	l.run("ip", "netns", "add", "t1")

	call := func(annotations map[string]string, verb string) (string, error) {
		caps, err := json.Marshal(map[string]any{"io.kubernetes.cri.pod-annotations": annotations, "dns": map[string]any{"servers": []string{"10.96.0.10"}}})
		if err != nil {
			t.Fatal(err)
		}
		return l.try("CNI_PATH="+filepath.Join(l.dir, "cni"), "NETCONFPATH="+filepath.Join(l.dir, "net.d"), "CNI_IFNAME=eth0",
			"CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=cart;K8S_POD_UID=u1", "CAP_ARGS="+string(caps), "cnitool", verb, "lab", "/run/netns/t1")
	}
	must := func(annotations map[string]string, verb string) string {
		t.Helper()
		out, err := call(annotations, verb)
		if err != nil {
			t.Fatalf("%s: %v\n%s", verb, err, out)
		}
		return out
	}
	var result cniResult
	if err := json.Unmarshal([]byte(must(captureLab, "add")), &result); err != nil {
		t.Fatal(err)
	}
	must(captureLab, "check")
	l.run("ip", "-n", "t1", "link", "set", "lo", "up") // which the runtime does
	must(captureLab, "check")
	l.serve("", 0, "world 9999 3306")
	gateways, pods := result.pods()
	l.checkCaptured("/run/netns/t1", gateways, pods)
	l.run("nsenter", "--net=/run/netns/t1", "nft", "flush", "chain", "inet", "weir", "output")
	if out, err := call(captureLab, "check"); err == nil || !strings.Contains(out, "the rules of pod shop/cart are not as they should be") {
		t.Errorf("CHECK of a flushed chain: %v\n%s", err, out)
	}
	for range 2 {
		must(captureLab, "del")
		if got := l.run("nsenter", "--net=/run/netns/t1", "nft", "list", "ruleset"); got != "" {
			t.Errorf("DEL leaves\n%s", got)
		}
	}
	wrong := map[string]string{"sidecar.istio.io/status": "{}", "traffic.sidecar.istio.io/excludeOutboundPorts": "80,htp!"}
	out, err := call(wrong, "add")
	if want := `plugin type="weir-cni" failed (add): pod shop/cart is not captured: annotation traffic.sidecar.istio.io/excludeOutboundPorts: entry 2: "htp!" is not a port`; err == nil || !strings.Contains(out, want) {
		t.Errorf("%v\n%s\nwant %s", err, out, want)
	}
	must(wrong, "del") // as runtimes do
	if got := l.run("nsenter", "--net=/run/netns/t1", "nft", "list", "ruleset"); got != "" {
		t.Errorf("a failing ADD leaves\n%s", got)
	}
	if got := l.run("ls", "/run/cni/host-local/lab"); strings.Contains(got, "10.77.0.") && !strings.Contains(got, "last_reserved") {
		t.Errorf("addresses are still taken:\n%s", got)
	}
	must(captureLab, "add") // nothing is in the way
	must(captureLab, "del")
}

// podmanConf runs containers with the CNI backend, and nothing of the machine's own podman.
const podmanConf = `[network]
network_backend = "cni"
cni_plugin_dirs = ["@LAB@/cni"]
network_config_dir = "@LAB@/net.d"
default_network = "lab"
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
[containers]
oom_score_adj = 0
`

// TestCNIPodman: podman's CNI backend calls VERSION without a namespace, passes no annotations and no
// namespace: the configuration in the plugin's entry captures its containers.
func TestCNIPodman(t *testing.T) {
	tool(t, filepath.Join(debianPlugins, "bridge"), "containernetworking-plugins")
	tool(t, "podman", "podman")
	busybox := tool(t, "busybox", "busybox-static")
	l := newNodeLab(t)
	l.installPlugins(debianPlugins, "bridge", "host-local", "firewall", "portmap", "tuning", "loopback")
	l.write("containers.conf", podmanConf)
	l.write("policy.json", `{"default":[{"type":"insecureAcceptAnything"}]}`)
	l.write("net.d/10-lab.conflist", labList("0.4.0", "bridge", `
      "bridge": "cni0", "isGateway": true, "hairpinMode": true,`))
	l.write("settings.json", `{"agentSocket": "", "written": "", "config": {"version": 1, "mode": "sidecar", "proxy": {"uids": [1337], "gids": [1337]}, "inbound": {"excludePorts": [8081]}, "outbound": {"excludePorts": [3306]}}}`)
	l.run("weir", "cni", "install", "--bin-dir", filepath.Join(l.dir, "cni"), "--conf-dir", filepath.Join(l.dir, "net.d"), "--settings", filepath.Join(l.dir, "settings.json"))
	root := filepath.Join(l.dir, "image")
	for _, d := range []string{"bin", "proc", "sys", "dev", "etc", "run", "tmp"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(busybox)
	if err != nil {
		t.Fatal(err)
	}
	l.program("image/bin/busybox", text)
	podman := func(args ...string) string {
		t.Helper()
		base := []string{"CONTAINERS_CONF=" + filepath.Join(l.dir, "containers.conf"), "podman", "--root", filepath.Join(l.dir, "storage"), "--runroot", "/run/podman",
			"--storage-driver", "vfs", "--cgroup-manager", "cgroupfs", "--network-config-dir", filepath.Join(l.dir, "net.d")}
		return l.run(append(base, args...)...)
	}
	id := strings.TrimSpace(podman("run", "-d", "--name", "web", "--network", "lab", "--rootfs", root, "/bin/busybox", "sleep", "3600"))
	t.Cleanup(func() { podman("rm", "-f", "-t", "0", "web") })
	var inspected []struct {
		NetworkSettings struct {
			SandboxKey string
			Networks   map[string]struct{ IPAddress, Gateway, GlobalIPv6Address, IPv6Gateway string }
		}
	}
	if err := json.Unmarshal([]byte(podman("inspect", id)), &inspected); err != nil {
		t.Fatal(err)
	}
	l.serve("", 0, "world 9999 3306")
	network := inspected[0].NetworkSettings.Networks["lab"]
	netns := inspected[0].NetworkSettings.SandboxKey
	l.checkCaptured(netns, []string{network.Gateway, network.IPv6Gateway}, []string{network.IPAddress, network.GlobalIPv6Address})
	began := time.Now()
	podman("stop", "-t", "0", "web")
	t.Logf("stopped in %s", time.Since(began))
}
