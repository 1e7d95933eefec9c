// SPDX-License-Identifier: Apache-2.0

//go:build linux

package integration

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weir-mesh/weir/internal/cgroupmark"
	"github.com/weir-mesh/weir/internal/scratch"
	"github.com/weir-mesh/weir/netns"
)

// markedPod is a pod whose proxy cannot mark its sockets, captured without connection tracking.
var markedPod = map[string]string{
	"weir.dev/config":          strings.ReplaceAll(untrackedConfig, "mode:", "version: 1\nmode:"),
	"weir.dev/proxy-container": "proxy",
}

// unify gives a program a machine with cgroup v2 alone, as far as one of both versions can be that: its controllers are
// those of the other version.
var unify = []string{"sh", "-c", `mount -t cgroup2 cgroup2 /sys/fs/cgroup; exec "$@"`, "sh"}

// unlimited is runc for such a machine: without the limits that only those controllers have.
const unlimited = `#!/bin/sh
for word; do
	[ "$before" != --bundle ] || bundle=$word
	before=$word
done
if [ -n "$bundle" ]; then
	jq '.linux.resources |= {devices}' "$bundle/config.json" >"$bundle/config.new"
	mv "$bundle/config.new" "$bundle/config.json"
fi
exec /usr/sbin/runc "$@"
`

// TestContainerdProxyContainer: HAProxy, which cannot mark its sockets, is the proxy of a pod without connection tracking.
// The agent marks them once the runtime tells of its container, and again of each that takes its place; without an agent
// that can, the pod does not start.
func TestContainerdProxyContainer(t *testing.T) {
	haproxy := tool(t, "haproxy", "haproxy")
	tool(t, "jq", "jq")
	config := strings.NewReplacer(`,"io.containerd.nri.v1.nri"`, "", "/usr/sbin/runc", "@LAB@/bin/runc").Replace(containerd2)
	n := newContainerdOf(t, 1, config, unify...)
	n.program("bin/runc", []byte(unlimited))
	n.install()
	n.awaitInfo("the list with weir", knowsWeir)
	agent, err := build("./cmd/weir-node", "")
	if err != nil {
		t.Fatal(err)
	}
	n.program("bin/weir-node", agent)
	sandbox := n.sandbox("shop", markedPod)
	n.refuses(sandbox, "pod shop/shop needs the node agent to mark the sockets of its proxy (annotation weir.dev/proxy-container), and the node agent did not answer")
	stop := n.agent()
	n.refuses(sandbox, "run the node agent with --nri-socket on a runtime that has NRI")
	stop()
	stop = n.agent("--nri-socket", "/run/nri/nri.sock", "--cgroup-dir", "/sys/fs/cgroup")

	var pod string
	n.await("the pod starts once the runtime tells of pods", time.Minute, func() error {
		out, err := n.crictl("runp", sandbox)
		pod = strings.TrimSpace(out)
		if err != nil {
			err = fmt.Errorf("%w: %s", err, out)
		}
		return err
	})
	path, addresses := n.inspect(pod)
	inside, node := n.space(path), n.space("/proc/self/ns/net")
	world, application := serveWeb(t, node, 0, 9999), serveWeb(t, inside, appID, appPort)
	file := n.write("haproxy/haproxy.cfg", strings.ReplaceAll(haproxyConfig(true), ":15001", ":15001 transparent"))
	container := map[string]any{"metadata": map[string]any{"name": "proxy"}, "image": map[string]any{"image": sandboxImage}, "log_path": "proxy.log",
		"command": []string{haproxy, "-db", "-f", file},
		"linux":   map[string]any{"security_context": map[string]any{"capabilities": map[string]any{"add_capabilities": []string{"NET_ADMIN"}}}},
	}
	var mounts []any
	for _, folder := range []string{"/usr", "/lib", "/lib64", filepath.Dir(file)} {
		mounts = append(mounts, map[string]any{"host_path": folder, "container_path": folder, "readonly": true})
	}
	container["mounts"] = mounts
	text, err := json.Marshal(container)
	if err != nil {
		t.Fatal(err)
	}
	proxy := n.write("pods/proxy.json", string(text))
	start := func() string {
		t.Helper()
		id := n.mustCrictl("create", pod, proxy, sandbox)
		n.mustCrictl("start", id)
		n.await("the proxy listens", time.Minute, func() error {
			out, err := n.try("nsenter", "--net="+path, "ss", "-ltnH")
			if err == nil && strings.Count(out, ":15001 ")+strings.Count(out, ":15006 ") != 4 {
				err = errors.New(out)
			}
			return err
		})
		return id
	}
	once := func(by, client string) func(int, seen) bool {
		return func(_ int, s seen) bool { return s.By == by && s.For == client } // one address: a second is another round
	}
	both := func(requests int) {
		t.Helper()
		for i, gateway := range []string{"10.77.0.1", "fd77::1"} {
			in, out := netip.AddrPortFrom(netip.MustParseAddr(addresses[i]), appPort), netip.AddrPortFrom(netip.MustParseAddr(gateway), 9999)
			load{in: node, requests: requests, to: func(int) netip.AddrPort { return in }, right: once("inbound", gateway)}.run(t)
			application.only(t, requests)
			load{in: inside, uid: appID, gid: appID, requests: requests, to: func(int) netip.AddrPort { return out }, right: once("outbound", addresses[i])}.run(t)
			world.only(t, requests)
		}
	}
	id := start()
	n.await("the node's own addresses have been looked for twins, before which it calls from others", time.Minute, func() error {
		out, err := n.try("ip", "-6", "address", "show", "tentative")
		if err == nil && out != "" {
			err = errors.New(out)
		}
		return err
	})
	both(500)
	const restarts = 10
	for range restarts {
		n.mustCrictl("stop", "--timeout", "0", id)
		n.mustCrictl("rm", id)
		id = start()
		both(20)
	}
	stop() // and its successor finds the mark there
	stop = n.agent("--nri-socket", "/run/nri/nri.sock", "--cgroup-dir", "/sys/fs/cgroup")
	both(20)
	flows, err := inside.Conntrack()
	if err != nil || len(flows) > 0 {
		t.Errorf("the pod's connection tracking has %d entries, %v", len(flows), err)
	}
	number, is := netns.InodeAt(inside.Path())
	if !is {
		t.Fatal("the pod's network namespace has gone")
	}
	if got, err := cgroupmark.Loaded(cgroupmark.NameOfContainer(number)); got != 1 || err != nil {
		t.Errorf("while the proxy runs, %d programs mark its sockets, %v", got, err)
	}
	n.mustCrictl("stopp", pod)
	n.mustCrictl("rmp", pod)
	n.await("the program goes with the pod", time.Minute, func() error {
		if left, err := cgroupmark.Loaded(cgroupmark.NameOfContainer(number)); left != 0 || err != nil {
			return fmt.Errorf("%d are loaded, %v", left, err)
		}
		return nil
	})
	stop()
	t.Logf("captured both ways in both families, the proxy's container started again %d times, no connection looped, 0 entries of connection tracking", restarts)
}

// refuses checks that a pod does not start, and why.
func (n containerdNode) refuses(sandbox, why string) {
	n.Helper()
	if out, err := n.crictl("runp", sandbox); err == nil || !strings.Contains(strings.ReplaceAll(out, `\`, ""), why) {
		n.Errorf("it starts, or not for the reason: %v\n%s\nwant %s", err, out, why)
	}
}

// agent runs the node's agent until it is stopped, and waits until it answers.
func (n containerdNode) agent(flags ...string) (stop func()) {
	n.Helper()
	cmd := n.command(append([]string{"weir-node", "run", "--state-dir", filepath.Join(n.dir, "state"), "--health", "127.0.0.1:8000", "--metrics", ""}, flags...)...)
	var log lockedBuffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		n.Fatal(err)
	}
	ended := false
	stop = func() {
		if !ended {
			ended = true
			end(cmd)
		}
	}
	n.Cleanup(func() {
		stop()
		if n.Failed() {
			n.Logf("weir-node %v:\n%s", flags, log.String())
		}
	})
	n.await("the agent is ready", time.Minute, func() error {
		_, err := n.try("curl", "-fsS", "http://127.0.0.1:8000/readyz")
		return err
	})
	if len(flags) > 0 {
		n.await("the runtime tells the agent of pods", time.Minute, func() error {
			if text := log.String(); !strings.Contains(text, "the container runtime tells of pods") {
				return errors.New(text)
			}
			return nil
		})
	}
	return stop
}

// space is a network namespace by its path on the node.
func (n containerdNode) space(path string) *scratch.Namespace {
	n.Helper()
	if strings.HasPrefix(path, "/proc/") {
		path = fmt.Sprintf("/proc/%d/ns/net", n.pid)
	} else {
		path = fmt.Sprintf("/proc/%d/root%s", n.pid, strings.TrimPrefix(path, "/var")) // a link, which would lead out
	}
	ns, err := scratch.OpenNamespace(path)
	if err != nil {
		n.Fatal(err)
	}
	n.Cleanup(func() { ns.Close() })
	return ns
}
