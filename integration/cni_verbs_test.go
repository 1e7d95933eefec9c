// SPDX-License-Identifier: Apache-2.0

//go:build linux

package integration

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/weir-mesh/weir/internal/scratch"
)

// cniPod is a pod's namespace, joined to the test's own, which stands for the machine's.
type cniPod struct {
	*cli
	pod *scratch.Namespace
}

func newCNIPod(t testing.TB, addresses ...string) cniPod {
	t.Helper()
	p := cniPod{cli: newCLI(t)}
	host, err := scratch.OpenNamespace(fmt.Sprintf("/proc/self/fd/%d", p.file.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { host.Close() })
	if p.pod, err = scratch.NewNamespace(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.pod.Close() })
	if err := scratch.Veth(p.pod, "eth0", host, "veth0"); err != nil {
		t.Fatal(err)
	}
	for _, a := range addresses {
		p.address(t, a)
	}
	return p
}

// ip runs ip(8) in the pod.
func (p cniPod) ip(t testing.TB, args ...string) {
	t.Helper()
	p.inPod(t, "ip", args...)
}

func (p cniPod) inPod(t testing.TB, name string, args ...string) string {
	t.Helper()
	var text []byte
	err := p.pod.Do(func() (err error) {
		text, err = exec.Command(name, args...).CombinedOutput()
		return err
	})
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, text)
	}
	return string(text)
}

func (p cniPod) address(t testing.TB, address string) {
	t.Helper()
	if strings.Contains(address, ":") {
		p.ip(t, "address", "add", address, "dev", "eth0", "nodad")
	} else {
		p.ip(t, "address", "add", address, "dev", "eth0")
	}
}

func (p cniPod) ruleset(t testing.TB) string { return p.inPod(t, "nft", "list", "ruleset") }

// call is a call about the pod.
func (p cniPod) call(annotations map[string]string) pluginCall {
	return pluginCall{netns: p.pod.Path(), annotations: annotations}
}

var sidecarPod = map[string]string{"sidecar.istio.io/status": istioStatus}

// TestCNIResult: what the plugins before answered goes on byte for byte, in each version, captured or not.
func TestCNIResult(t *testing.T) {
	p := newCNIPod(t, "198.18.0.2/24")
	for _, version := range []string{"0.3.1", "0.4.0", "1.0.0", "1.1.0"} {
		for _, annotations := range []map[string]string{sidecarPod, {}, nil} {
			call := p.call(annotations)
			call.version = version
			if got, want := p.plugin("ADD", call).succeeded(t), call.result(version); got != want {
				t.Errorf("%s: result\n%s\nwant\n%s", version, got, want)
			}
			call.previous = "none"
			var empty struct{ CNIVersion string }
			if err := json.Unmarshal([]byte(p.plugin("ADD", call).succeeded(t)), &empty); err != nil || empty.CNIVersion != version {
				t.Errorf("%s: a result of version %q, %v", version, empty.CNIVersion, err)
			}
		}
	}
	old := p.call(nil)
	old.previous = strings.ReplaceAll(labResult, "VERSION", "0.3.1") // in a list of 1.1.0
	if got := p.plugin("ADD", old).succeeded(t); !strings.Contains(got, `"cniVersion": "1.1.0"`) || !strings.Contains(got, "2001:db8:18::2/64") {
		t.Errorf("converted to %s", got)
	}
	for _, version := range []string{"0.3.0", "2.0.0"} {
		call := p.call(nil)
		call.version = version
		if e := p.plugin("ADD", call).failed(t); e.Code != 1 {
			t.Errorf("%s: %+v, want code 1", version, e)
		}
	}
	if got := p.plugin("VERSION", p.call(nil)).succeeded(t); !strings.Contains(got, `["0.3.1","0.4.0","1.0.0","1.1.0"]`) {
		t.Errorf("VERSION: %s", got)
	}
}

// TestCNIByName: a program of that name is the plugin, without an argument.
func TestCNIByName(t *testing.T) {
	p := newCNIPod(t)
	named := p.cli.with(func(o *cli) { o.program = filepath.Join(filepath.Dir(p.program), "weir-cni") })
	if err := os.Link(p.program, named.program); err != nil {
		t.Fatal(err)
	}
	named.env = []string{"CNI_COMMAND=VERSION"}
	if got := named.run().succeeded(t); !strings.Contains(got, "supportedVersions") {
		t.Error(got)
	}
	named.env = nil
	if o := named.run(); o.code != 0 || !strings.Contains(o.errs, "CNI plugin") {
		t.Error(o)
	}
}

// TestCNICheck passes right after ADD, and tells what was changed since.
func TestCNICheck(t *testing.T) {
	p := newCNIPod(t, "198.18.0.2/24", "2001:db8:18::2/64")
	call := p.call(sidecarPod)
	p.plugin("ADD", call).succeeded(t)
	p.plugin("CHECK", call).succeeded(t)
	p.inPod(t, "nft", "add", "element", "inet", "weir", "outbound_exclude_ports", "{ 443 }")
	if e := p.plugin("CHECK", call).failed(t); e.Code != 102 || !strings.Contains(e.Msg, "pod shop/cart") || !strings.Contains(e.Msg, "outbound_exclude_ports") {
		t.Errorf("%+v", e)
	}
	// whoever does not know any more what was wanted compares with what was written
	if e := p.plugin("CHECK", p.call(nil)).failed(t); e.Code != 102 {
		t.Errorf("by the tag: %+v", e)
	}
	p.plugin("ADD", call).succeeded(t)
	p.plugin("CHECK", call).succeeded(t)
	p.plugin("CHECK", p.call(nil)).succeeded(t)
	p.inPod(t, "nft", "delete", "table", "inet", "weir")
	if e := p.plugin("CHECK", call).failed(t); e.Code != 102 {
		t.Errorf("without a table: %+v", e)
	}
	p.plugin("CHECK", p.call(map[string]string{})).succeeded(t)
}

// TestCNIWritten: ADD notes for the agent what it wrote, and DEL takes that away.
func TestCNIWritten(t *testing.T) {
	p := newCNIPod(t, "198.18.0.2/24")
	call, dir := p.call(sidecarPod), t.TempDir()
	call.entry = map[string]any{"written": dir}
	p.plugin("ADD", call).succeeded(t)
	noted, err := os.ReadFile(filepath.Join(dir, "c1"))
	if tag := p.inPod(t, "nft", "list", "set", "inet", "weir", "tag"); err != nil || len(noted) == 0 || !strings.Contains(tag, " "+string(noted)+" ") {
		t.Errorf("noted as %q, %v; the tag is\n%s", noted, err, tag)
	}
	p.plugin("DEL", call).succeeded(t)
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("DEL leaves %v, %v", left, err)
	}
}

// TestCNIDelete succeeds twice, without a namespace, a result, or settings that can be read.
func TestCNIDelete(t *testing.T) {
	p := newCNIPod(t, "198.18.0.2/24")
	call := p.call(sidecarPod)
	before := p.ruleset(t)
	p.plugin("ADD", call).succeeded(t)
	p.plugin("DEL", call).succeeded(t)
	if got := p.ruleset(t); got != before {
		t.Errorf("DEL leaves\n%s", got)
	}
	for _, again := range []pluginCall{
		call, {previous: "none"}, {netns: "/run/netns/gone", annotations: sidecarPod}, {netns: "/etc/hostname"},
		{entry: map[string]any{"agentSocket": 5, "config": "x"}}, {entry: map[string]any{"agentSocket": "/nowhere/agent.sock"}},
		{args: "K8S_POD_NAMESPACE=shop;K8S_POD_NAME=cart;K8S_POD_UID=\x1b[31m"},
	} {
		if got := p.plugin("DEL", again).succeeded(t); got != "" {
			t.Errorf("DEL prints %q", got)
		}
	}
}

// TestCNISecondAttachment: a further interface of a pod changes nothing when it comes, and does not take the
// rules with it when it goes.
func TestCNISecondAttachment(t *testing.T) {
	p := newCNIPod(t, "198.18.0.2/24")
	first := p.call(sidecarPod)
	p.plugin("ADD", first).succeeded(t)
	rules := p.ruleset(t)
	p.ip(t, "link", "add", "net1", "type", "veth", "peer", "name", "net1p")
	p.ip(t, "address", "add", "198.18.9.2/24", "dev", "net1")
	for _, annotations := range []map[string]string{sidecarPod, nil} {
		second := p.call(annotations)
		second.ifName = "net1"
		p.plugin("ADD", second).succeeded(t)
		p.plugin("CHECK", second).succeeded(t)
		if got := p.ruleset(t); got != rules {
			t.Errorf("a second ADD changes the rules to\n%s", got)
		}
		p.plugin("DEL", second).succeeded(t)
		if got := p.ruleset(t); got != rules {
			t.Errorf("a DEL of the second attachment changes the rules to\n%s", got)
		}
	}
	p.plugin("CHECK", first).succeeded(t)
}

// TestCNICheckBesideAnotherNetwork: an interface that a network without the plugin adds later is no reason to
// fail a pod that is captured as it was asked for.
func TestCNICheckBesideAnotherNetwork(t *testing.T) {
	p := newCNIPod(t, "198.18.0.2/24")
	call := p.call(sidecarPod)
	p.plugin("ADD", call).succeeded(t)
	p.ip(t, "link", "add", "net1", "type", "veth", "peer", "name", "net1p")
	p.ip(t, "address", "add", "198.18.9.2/24", "dev", "net1")
	p.ip(t, "link", "set", "net1p", "up")
	p.ip(t, "link", "set", "net1", "up")
	p.plugin("CHECK", call).succeeded(t)
	p.inPod(t, "nft", "delete", "table", "inet", "weir")
	p.plugin("CHECK", call).failed(t)
}

// TestCNILoopbackDown: the runtime sets lo up in parallel, so that it being down is nothing to tell, and what
// was added to it works when it is up.
func TestCNILoopbackDown(t *testing.T) {
	p := newCNIPod(t, "198.18.0.2/24", "2001:db8:18::2/64")
	for _, annotations := range []map[string]string{sidecarPod, {"weir.dev/config": "{mode: ambient-pod}"}} {
		call := p.call(annotations)
		if o := p.plugin("ADD", call); o.code != 0 || o.errs != "" {
			t.Error(o)
		}
		p.plugin("CHECK", call).succeeded(t)
	}
	p.plugin("ADD", p.call(sidecarPod)).succeeded(t)
	p.ip(t, "link", "set", "lo", "up")
	p.plugin("CHECK", p.call(sidecarPod)).succeeded(t)
	if got := p.inPod(t, "ip", "-6", "route", "get", "::1", "from", "::6"); !strings.Contains(got, "dev lo") {
		t.Errorf("the proxy cannot call from ::6: %s", got)
	}
	err := p.pod.Do(func() error {
		_, err := listenable("[::6]:0")
		return err
	})
	if err != nil {
		t.Errorf("::6 is not an address once lo is up: %v", err)
	}
}

// TestCNIHostNetwork: the machine's own namespace is refused, and a pod that asks nothing passes its ADD on
// to skel, which refuses it too.
func TestCNIHostNetwork(t *testing.T) {
	p := newCNIPod(t)
	call := p.call(sidecarPod)
	call.netns = fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), p.file.Fd())
	e := p.plugin("ADD", call).failed(t)
	if e.Code != 100 || !strings.Contains(e.Msg, "shares the machine's own network") || !strings.Contains(e.Details, "hostNetwork: false") {
		t.Errorf("%+v", e)
	}
}

// TestCNIFamilies: what a pod has addresses of is captured; whether a dual-stack pod's IPv6 is, its proxy says.
func TestCNIFamilies(t *testing.T) {
	const v4, v6 = "198.18.0.2/24", "2001:db8:18::2/64"
	for _, tt := range []struct {
		why       string
		addresses []string
		entry     map[string]any
		v6        bool
	}{
		{"IPv4 alone", []string{v4}, nil, false},
		{"IPv6 alone", []string{v6}, nil, true},
		{"both", []string{v4, v6}, nil, true},
		{"both, but the node says no", []string{v4, v6}, map[string]any{"meshes": map[string]any{"istio": map[string]any{"ipv6": "disabled"}}}, false},
	} {
		p := newCNIPod(t, tt.addresses...)
		call := p.call(sidecarPod)
		call.entry = tt.entry
		p.plugin("ADD", call).succeeded(t)
		if got := p.ruleset(t); strings.Contains(got, "IPv6 is off") == tt.v6 || !strings.Contains(got, "15001") {
			t.Errorf("%s: IPv6 is captured: want %v\n%s", tt.why, tt.v6, got)
		}
		if slices.Contains(tt.addresses, v4) {
			p.capturesCalls(t, "tcp4", "203.0.113.9:80")
		}
		if tt.v6 {
			p.capturesCalls(t, "tcp6", "[2001:db8:99::9]:80")
		}
	}
}

// capturesCalls: a connection of the pod to an address of elsewhere arrives at the outbound listener.
func (p cniPod) capturesCalls(t *testing.T, network, to string) {
	t.Helper()
	family := "-" + strings.TrimPrefix(network, "tcp")
	for _, link := range []string{"lo", "eth0"} {
		p.ip(t, "link", "set", link, "up")
	}
	p.ip(t, family, "route", "replace", "default", "dev", "eth0")
	err := p.pod.Do(func() error {
		listener, err := net.Listen(network, ":15001")
		if err != nil {
			return err
		}
		defer listener.Close()
		conn, err := net.DialTimeout(network, to, eventPatience)
		if err != nil {
			return err
		}
		defer conn.Close()
		if err := listener.(*net.TCPListener).SetDeadline(time.Now().Add(eventPatience)); err != nil {
			return err
		}
		accepted, err := listener.Accept()
		if err != nil {
			return err
		}
		return accepted.Close()
	})
	if err != nil {
		t.Errorf("%s to %s does not reach the proxy: %v", network, to, err)
	}
}

// TestCNIStatus is an error only where the plugin itself cannot work.
func TestCNIStatus(t *testing.T) {
	p := newCNIPod(t)
	p.plugin("STATUS", pluginCall{}).succeeded(t)
	p.plugin("STATUS", pluginCall{entry: map[string]any{"agentSocket": "/nowhere/agent.sock", "kubeconfig": "/nowhere", "enrolled": "/nowhere"}}).succeeded(t)
	e := p.plugin("STATUS", pluginCall{entry: map[string]any{
		"agentSocket": "agent.sock", "timeOut": "1s", "timeout": "1h", "excludeNamespaces": "kube-system", "agentPods": "x",
		"meshes": map[string]any{"istio": map[string]any{"outbound": map[string]any{"port": 70000}, "dsn": 1}, "osm": false}, "config": map[string]any{"mode": "sidecar"},
	}}).failed(t)
	if e.Code != 50 {
		t.Errorf("%+v", e)
	}
	for _, want := range []string{"agentSocket: ", "timeOut: unknown key (did you mean timeout?)", "timeout: ", "excludeNamespaces: ", "agentPods: ", "70000", "dsn", "osm: unknown mesh", "config: "} {
		if !strings.Contains(e.Msg, want) {
			t.Errorf("%q is not in %q", want, e.Msg)
		}
	}
	unprivileged := p.cli.with(func(o *cli) { o.uid = 12345 })
	if e := unprivileged.plugin("STATUS", pluginCall{}).failed(t); e.Code != 50 {
		t.Errorf("without the right to nftables: %+v", e)
	}
}

// TestCNIGarbageCollection: pods that have gone leave the probe set; those of other networks stay, and
// nothing goes where not all attachments are known.
func TestCNIGarbageCollection(t *testing.T) {
	p := newCNIPod(t)
	p.run("ambient", "host", "apply").succeeded(t)
	for uid, addresses := range map[string][]string{"live": {"198.18.0.2"}, "gone": {"198.18.0.3", "2001:db8:18::3"}, "other": {"198.18.7.2"}} {
		p.run(append([]string{"ambient", "host", "pods", "add", "--pod", uid}, addresses...)...).succeeded(t)
	}
	results := t.TempDir()
	note := func(file, container, uid, address string) {
		text := fmt.Sprintf(`{"kind":"cniCacheV1","containerId":%q,"config":"e30=","ifName":"eth0","networkName":"lab","cniArgs":[["K8S_POD_UID",%q]],`+
			`"result":{"cniVersion":"1.1.0","ips":[{"address":%q}]}}`, container, uid, address)
		if err := os.WriteFile(filepath.Join(results, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	note("lab-c1-eth0", "c1", "live", "198.18.0.2/24")
	note("else-c7-net1", "c7", "other", "198.18.7.2/24")
	gc := func(valid ...string) outcome {
		var list []map[string]string
		for _, id := range valid {
			list = append(list, map[string]string{"containerID": id, "ifname": "eth0"})
		}
		return p.plugin("GC", pluginCall{entry: map[string]any{"results": results, "cni.dev/valid-attachments": list}, previous: "none"})
	}
	pods := func() string { return p.run("ambient", "host", "pods", "list").succeeded(t) }
	before := pods()
	gc("c1", "c2").succeeded(t)
	if got := pods(); got != before {
		t.Errorf("something was pruned though not all attachments are known:\n%s", got)
	}
	gc("c1").succeeded(t)
	got := pods()
	for word, want := range map[string]bool{"live": true, "other": true, "gone": false} {
		if strings.Contains(got, word) != want {
			t.Errorf("%s is there: want %v\n%s", word, want, got)
		}
	}
	p.plugin("DEL", pluginCall{args: "K8S_POD_NAMESPACE=shop;K8S_POD_NAME=cart;K8S_POD_UID=live"}).succeeded(t)
	if got := pods(); strings.Contains(got, "live") {
		t.Errorf("a DEL leaves the pod's address:\n%s", got)
	}
}

// TestCNIUserNamespace: a pod with hostUsers: false has a network namespace that belongs to a user namespace of
// its own. Users in rules are the pod's, and its proxy is told from its application.
func TestCNIUserNamespace(t *testing.T) {
	needUsers(t)
	p := newCNIPod(t)
	const firstID, ids = 300000, 65536
	sleep := exec.Command("sleep", "infinity")
	sleep.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: firstID, Size: ids}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: firstID, Size: ids}},
		Credential:  &syscall.Credential{Uid: 0, Gid: 0},

		GidMappingsEnableSetgroups: true,
	}
	if err := sleep.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = sleep.Process.Kill()
		_ = sleep.Wait()
	})
	var err error
	if p.pod, err = scratch.OpenNamespace(fmt.Sprintf("/proc/%d/ns/net", sleep.Process.Pid)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.pod.Close() })
	p.do(func() error {
		for _, line := range []string{
			fmt.Sprintf("link add veth1 type veth peer name eth0 netns %d", sleep.Process.Pid),
			"address add 198.18.0.1/24 dev veth1", "link set veth1 up",
		} {
			if out, err := exec.Command("ip", strings.Fields(line)...).CombinedOutput(); err != nil {
				return fmt.Errorf("ip %s: %w: %s", line, err, out)
			}
		}
		return nil
	})
	p.address(t, "198.18.0.2/24")
	p.ip(t, "link", "set", "eth0", "up")
	p.ip(t, "link", "set", "lo", "up")
	p.plugin("ADD", p.call(sidecarPod)).succeeded(t)
	p.plugin("CHECK", p.call(sidecarPod)).succeeded(t)

	self := installSelf(t)
	asUser := func(id int, env ...string) *exec.Cmd {
		args := append([]string{"-t", fmt.Sprint(sleep.Process.Pid), "--user", "--net", "setpriv", "--reuid", fmt.Sprint(id), "--regid", fmt.Sprint(id), "--clear-groups", "env"}, env...)
		return exec.Command("nsenter", append(args, self)...)
	}
	proxy := asUser(proxyID, roleEnv+"=banner", bannerEnv+"=proxy 15001")
	var errs bytes.Buffer
	proxy.Stderr, proxy.WaitDelay = &errs, time.Second
	if out, err := proxy.StdoutPipe(); err != nil {
		t.Fatal(err)
	} else if err = proxy.Start(); err != nil {
		t.Fatal(err)
	} else if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "ready\n" {
		_ = proxy.Wait()
		t.Fatalf("%q, %v\n%s", line, err, &errs)
	}
	t.Cleanup(func() {
		_ = proxy.Process.Kill()
		_ = proxy.Wait()
	})
	for id, want := range map[int]string{appID: "proxy:15001", proxyID: "none"} { // nothing listens in the world
		out, err := asUser(id, roleEnv+"=land", landEnv+"=198.18.0.1:9999").CombinedOutput()
		if err != nil || string(out) != want {
			t.Errorf("user %d of the pod lands at %s, want %s (%v)", id, out, want, err)
		}
	}
}

// installSelf is this test's program, where every user can run it.
func installSelf(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	return installAs(t, filepath.Join(sharedDir(t), "test-role"), text)
}
