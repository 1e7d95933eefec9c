// SPDX-License-Identifier: Apache-2.0

//go:build linux

package integration

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/weir-mesh/weir/internal/cgroupmark"
	"github.com/weir-mesh/weir/internal/scratch"
	"github.com/weir-mesh/weir/netns"
	"github.com/weir-mesh/weir/proxy"
	"golang.org/x/sys/unix"
)

// TestUntrackedFailsClosed has the application reach nothing past the proxy: where nothing listens, where
// a socket is bound to an interface, and where what is looped is no longer delivered.
func TestUntrackedFailsClosed(t *testing.T) {
	p := newRealPod(t)
	p.untracked(untrackedConfig)
	world := serveWeb(t, p.far, 0, 80)
	application := serveWeb(t, p.pod, appID, appPort)
	const past = "past"
	p.nftIn(p.far, "table inet watch { counter past { }; chain c { type filter hook prerouting priority -400; iif far0 tcp dport 80 counter name past; }; }")
	dial := func(ns *scratch.Namespace, to netip.AddrPort, device string) (err error) {
		d := net.Dialer{Timeout: lostTimeout, FallbackDelay: -1, Control: func(_, _ string, raw syscall.RawConn) error {
			var failed error
			return errors.Join(raw.Control(func(fd uintptr) {
				if device != "" {
					failed = unix.BindToDevice(int(fd), device)
				}
			}), failed)
		}}
		return ns.DoAs(appID, appID, func() error {
			conn, err := d.DialContext(context.Background(), "tcp", to.String())
			if err == nil {
				conn.Close()
			}
			return err
		})
	}
	timedOut := func(err error) bool {
		return errors.Is(err, context.DeadlineExceeded) || err != nil && strings.Contains(err.Error(), "timeout")
	}
	refused := func(err error) bool { return errors.Is(err, unix.ECONNREFUSED) }
	type attempt struct {
		why    string
		ns     *scratch.Namespace
		to     func(family) netip.AddrPort
		device string
		ended  func(error) bool
	}
	out := func(f family) netip.AddrPort { return f.somewhere(1, 80) }
	in := func(f family) netip.AddrPort { return netip.AddrPortFrom(f.pod.Addr(), appPort) }
	all := func(attempts ...attempt) {
		t.Helper()
		var group sync.WaitGroup
		for _, f := range families {
			for _, a := range attempts {
				group.Go(func() {
					if err := dial(a.ns, a.to(f), a.device); !a.ended(err) {
						t.Errorf("%s, %s: %v", a.why, f.name, err)
					}
				})
			}
		}
		group.Wait()
	}
	all(attempt{"no outbound listener: refused at once", p.pod, out, "", refused},
		attempt{"no inbound listener: dropped", p.far, in, "", timedOut},
		attempt{"bound to an interface, and no outbound listener: refused at once", p.pod, out, "eth0", refused})
	p.relay(proxyID, proxyID, 15001, proxy.SocketOptions{}, proxy.Dialer{Mark: untrackedMark})
	all(attempt{"an outbound listener that is not transparent: refused", p.pod, out, "", refused})
	p.ip("rule del priority 32765")
	p.ip("-6 rule del priority 32765")
	all(attempt{"no policy rule: dropped", p.pod, out, "", timedOut},
		attempt{"bound to an interface, and no policy rule: dropped", p.pod, out, "eth0", timedOut})
	if m := packetsCounted.FindStringSubmatch(p.nftIn(p.far, "list counter inet watch "+past)); m == nil || m[1] != "0" {
		t.Errorf("packets left past the proxy: %v", m)
	}
	for name, w := range map[string]*web{"world": world, "application": application} {
		if n := w.connections.Load(); n > 0 {
			t.Errorf("the %s got %d connections", name, n)
		}
	}
	p.untrackedEntries(t)
}

// TestUntrackedCgroupProgram: verify misses the program that gives the proxy's mark, and knows another
// one from it; apply brings it back, beside programs of others, which remove leaves.
func TestUntrackedCgroupProgram(t *testing.T) {
	path, _ := proxyCgroup(t)
	p := newRealPod(t)
	config := strings.Replace(untrackedConfig, "mark: 0x53d/0xfff", "mark: 0x53d/0xfff, cgroups: ["+path+"], assignMark: true", 1)
	mount, err := netns.Cgroup2Mount()
	if err != nil {
		t.Fatal(err)
	}
	var inode unix.Stat_t
	if err := p.pod.Do(func() error { return unix.Stat("/proc/thread-self/ns/net", &inode) }); err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(mount, path)
	own := cgroupmark.Program{Cgroup: folder, Name: cgroupmark.NameOf(tableName, inode.Ino), Mark: untrackedMark}
	foreign := cgroupmark.Program{Cgroup: folder, Name: "foreign", Mark: 0x1000000}
	if _, err := foreign.Attach(); err != nil {
		t.Skip(err)
	}
	defer func() { _, _ = cgroupmark.DetachAll(folder, foreign.Name) }()
	p.untracked(config)
	for _, change := range []struct {
		why string
		do  func() error
	}{
		{"it is gone", func() error { _, err := cgroupmark.DetachAll(folder, own.Name); return err }},
		{"another one has its name", func() error {
			other := own
			other.Mark = 0x111
			_, err := other.Attach()
			return err
		}},
	} {
		if err := change.do(); err != nil {
			t.Fatal(err)
		}
		p.feed(config, "verify", "-f", "-").want(t, 3).prints(t, "cgroup "+folder, "program "+own.Name)
		p.feed(config, "apply", "-f", "-").want(t, 0)
		if is, others, err := own.Attached(); !is || others > 0 || err != nil {
			t.Errorf("%s: after an apply %v, %d others, %v", change.why, is, others, err)
		}
		p.feed(config, "verify", "-f", "-").want(t, 0)
	}
	p.ok("remove")
	if is, others, err := own.Attached(); is || others > 0 || err != nil {
		t.Errorf("remove leaves %v, %d others, %v", is, others, err)
	}
	if is, _, err := foreign.Attached(); !is || err != nil {
		t.Errorf("remove took another's program: %v", err)
	}
	p.feed(strings.Replace(config, path, path+"-absent", 1), "apply", "-f", "-").want(t, 1).says(t, fmt.Sprintf("cgroup %s-absent", folder))
	if tables := p.tables(); len(tables) > 0 {
		t.Errorf("an apply that failed left %v", tables)
	}
}
