// SPDX-License-Identifier: Apache-2.0

//go:build linux

package integration

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weir-mesh/weir/netns"
)

// cgroup makes a cgroup for a proxy, and returns its path below the root of cgroup v2.
func proxyCgroup(t testing.TB) (path string, folder *os.File) {
	t.Helper()
	mount, err := netns.Cgroup2Mount()
	if err != nil || mount == "" {
		t.Skipf("cgroup v2 is not mounted here: %v", err)
	}
	path = fmt.Sprintf("weir-proxy-%d", os.Getpid())
	full := filepath.Join(mount, path)
	if err := os.Mkdir(full, 0o755); err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { _ = os.Remove(full) })
	if folder, err = os.Open(full); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { folder.Close() })
	return path, folder
}

// TestUntrackedHAProxy lets HAProxy be the proxy, which cannot mark its sockets: the cgroup program
// does. It is restarted again and again, and none of its sockets is without the mark, with which its
// own connections would be captured in a loop.
func TestUntrackedHAProxy(t *testing.T) {
	tool(t, "haproxy", "haproxy")
	requests, restarts := howOften(2000, 20000), howOften(10, 100)
	path, folder := proxyCgroup(t)
	p := newRealPod(t)
	config := strings.Replace(untrackedConfig, "mark: 0x53d/0xfff", "mark: 0x53d/0xfff, cgroups: ["+path+"], assignMark: true", 1)
	p.untracked(config)
	world := serveWeb(t, p.far, 0, worldPorts...)
	application := serveWeb(t, p.pod, appID, appPort)
	file := write(t, "haproxy.cfg", strings.ReplaceAll(haproxyConfig(true), ":15001", ":15001 transparent"))
	start := func() *daemon {
		c := tproxyProxy
		c.Args = []string{tool(t, "haproxy", "haproxy"), "-db", "-f", file}
		return p.serveIn(c, folder, 15001, 15006)
	}
	both := func(t *testing.T, requests int) {
		bothWays(t, p, requests, world, application, func(f family, _ netip.Addr) netip.Addr { return f.pass })
	}
	d := start()
	both(t, requests)
	for range restarts {
		d.stop()
		d = start()
		both(t, 5)
	}
	p.untrackedEntries(t)
	d.stop()
	p.feed(config, "verify", "-f", "-").want(t, 0)
	p.ok("remove")
	p.feed(config, "verify", "-f", "-").want(t, 3).prints(t, "cgroup ", "program weir_")
}

// bothWays sends requests in and out, in both families, by a proxy that says in headers what it saw, and
// that calls the application from the address that called tells.
func bothWays(t *testing.T, p *realPod, requests int, world, application *web, called func(f family, client netip.Addr) netip.Addr) {
	t.Helper()
	for _, f := range families {
		client := func(i int) netip.Addr { return f.clients[i%len(f.clients)] }
		in := netip.AddrPortFrom(f.pod.Addr(), appPort)
		load{in: p.far, requests: requests, from: client, to: func(int) netip.AddrPort { return in },
			right: func(i int, s seen) bool {
				return s.By == "inbound" && s.Peer.Addr() == called(f, client(i)) && s.For == client(i).String() && s.To == named(in) && s.Asked == in
			}}.run(t)
		application.only(t, requests)
		to := func(i int) netip.AddrPort { return f.somewhere(i, worldPorts[i%len(worldPorts)]) }
		load{in: p.pod, uid: appID, gid: appID, requests: requests, to: to,
			right: func(i int, s seen) bool {
				return s.By == "outbound" && s.Peer.Addr() == f.pod.Addr() && s.To == named(to(i)) && s.Asked == to(i)
			}}.run(t)
		world.only(t, requests)
	}
}
