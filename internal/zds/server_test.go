// SPDX-License-Identifier: Apache-2.0

//go:build linux

package zds_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weir-mesh/weir/internal/zds"
	"github.com/weir-mesh/weir/internal/zds/zdstest"
)

// file stands for a network namespace: to the protocol it is a descriptor.
func file(t testing.TB) *os.File {
	t.Helper()
	fd, err := unix.MemfdCreate("netns", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "netns")
	t.Cleanup(func() { f.Close() })
	return f
}

func inode(t testing.TB, f *os.File) uint64 {
	t.Helper()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	return inodeOf(info)
}

func inodeOf(info os.FileInfo) uint64 { return info.Sys().(*syscall.Stat_t).Ino }

// serve serves until the test ends or stop is called.
func serve(t testing.TB, s *zds.Server, socket string) (stop func()) {
	t.Helper()
	l, err := zds.Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, l) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		s.Close()
	}
	t.Cleanup(stop)
	return stop
}

func dial(t testing.TB, socket string) *zdstest.Proxy {
	t.Helper()
	p, err := zdstest.Dial(socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// expect reads a request, checks it, and answers.
func expect(t testing.TB, p *zdstest.Proxy, kind zds.Kind, uid string, answer string) (namespace uint64) {
	t.Helper()
	r, ns, err := p.Next()
	if err != nil {
		t.Fatalf("%s %s: %v", kind, uid, err)
	}
	if r.Kind != kind || r.Workload.UID != uid {
		t.Fatalf("%s %s, want %s %s", r.Kind, r.Workload.UID, kind, uid)
	}
	if ns != nil {
		namespace = inode(t, ns)
		ns.Close()
	}
	if err := p.Ack(answer); err != nil {
		t.Fatal(err)
	}
	return namespace
}

func workload(uid string) zds.Workload {
	return zds.Workload{UID: uid, Name: "name-" + uid, Namespace: "shop", ServiceAccount: "default"}
}

// await waits until the server's status is right.
func await(t testing.TB, s *zds.Server, want zds.Status) {
	t.Helper()
	for end := time.Now().Add(time.Minute); s.Status() != want; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%+v, want %+v", s.Status(), want)
		}
	}
}

// TestSnapshot: what is known before a proxy connects, one whose namespace is not known, what comes after,
// and what goes.
func TestSnapshot(t *testing.T) {
	socket, a, b := filepath.Join(t.TempDir(), "z.sock"), file(t), file(t)
	s := zds.New(zds.Options{}).WithoutPause()
	if err := s.Prepare(workload("a"), int(a.Fd())); err != nil {
		t.Fatal(err)
	}
	s.KeepServed(workload("k"))
	serve(t, s, socket)
	if info, err := os.Stat(socket); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	p := dial(t, socket)
	if got := expect(t, p, zds.Add, "a", ""); got != inode(t, a) {
		t.Errorf("the namespace is another")
	}
	expect(t, p, zds.Keep, "k", "")
	expect(t, p, zds.SnapshotSent, "", "")
	enrolled := make(chan error, 1)
	go func() { enrolled <- s.Enrol(t.Context(), workload("b"), int(b.Fd())) }()
	if got := expect(t, p, zds.Add, "b", ""); got != inode(t, b) {
		t.Errorf("the namespace is another")
	}
	if err := <-enrolled; err != nil {
		t.Fatal(err)
	}
	if err := s.Enrol(t.Context(), workload("b"), int(b.Fd())); err != nil { // at once: it is served
		t.Fatal(err)
	}
	s.Release("a")
	expect(t, p, zds.Del, "a", "")
	s.Release("a")
	go func() { enrolled <- s.Enrol(t.Context(), workload("b"), int(a.Fd())) }() // its sandbox was made anew
	if got := expect(t, p, zds.Add, "b", ""); got != inode(t, a) {
		t.Errorf("the namespace is another")
	}
	if err := <-enrolled; err != nil {
		t.Fatal(err)
	}
	await(t, s, zds.Status{Proxies: 1, Pods: 2, Served: 1})
}

// TestTwoProxies: while one takes the other's place, the newest serves what comes, both give up what goes,
// and where the newest goes again the older is told of what it was not.
func TestTwoProxies(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "z.sock")
	s := zds.New(zds.Options{}).WithoutPause()
	serve(t, s, socket)
	older := dial(t, socket)
	expect(t, older, zds.SnapshotSent, "", "")
	if err := s.Prepare(workload("a"), int(file(t).Fd())); err != nil {
		t.Fatal(err)
	}
	expect(t, older, zds.Add, "a", "")
	newest := dial(t, socket)
	expect(t, newest, zds.Add, "a", "")
	expect(t, newest, zds.SnapshotSent, "", "")
	for _, uid := range []string{"b", "c"} {
		if err := s.Prepare(workload(uid), int(file(t).Fd())); err != nil {
			t.Fatal(err)
		}
		expect(t, newest, zds.Add, uid, "")
	}
	s.Release("a")
	expect(t, newest, zds.Del, "a", "")
	expect(t, older, zds.Del, "a", "")
	s.Release("c")
	expect(t, newest, zds.Del, "c", "")
	newest.Close()
	expect(t, older, zds.Add, "b", "")
	await(t, s, zds.Status{Proxies: 1, Pods: 1, Served: 1})
}

// TestRefused: a proxy's refusal is the caller's, who may ask again; without a proxy there is an error that
// says so, and the pod is served by the next that connects.
func TestRefused(t *testing.T) {
	socket, ns := filepath.Join(t.TempDir(), "z.sock"), file(t)
	s := zds.New(zds.Options{}).WithoutPause()
	serve(t, s, socket)
	soon, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := s.Enrol(soon, workload("a"), int(ns.Fd())); !errors.Is(err, zds.ErrNoProxy) {
		t.Errorf("%v", err)
	}
	p := dial(t, socket)
	expect(t, p, zds.Add, "a", "no certificate")
	expect(t, p, zds.SnapshotSent, "", "")
	enrolled := make(chan error, 1)
	go func() { enrolled <- s.Enrol(t.Context(), workload("a"), int(ns.Fd())) }()
	expect(t, p, zds.Add, "a", strings.Repeat("no certificate", 1000))
	var refused *zds.RefusedError
	if err := <-enrolled; !errors.As(err, &refused) || refused.Workload.UID != "a" {
		t.Errorf("%v", err)
	}
	go func() { enrolled <- s.Enrol(t.Context(), workload("a"), int(ns.Fd())) }()
	expect(t, p, zds.Add, "a", "")
	if err := <-enrolled; err != nil {
		t.Error(err)
	}
	go func() { enrolled <- s.Enrol(t.Context(), workload("b"), int(ns.Fd())) }()
	if _, held, err := p.Next(); err != nil || held == nil {
		t.Fatal(err)
	} else {
		held.Close()
	}
	s.Release("b")
	if err := <-enrolled; err == nil {
		t.Error("a pod that was released while it waited is enrolled")
	}
}

// TestHostile: whoever says nothing, too much, or what it was not asked is hung up on in time, and a proxy
// beside it does not notice.
func TestHostile(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "z.sock")
	s := zds.New(zds.Options{Timeout: 100 * time.Millisecond}).WithoutPause()
	serve(t, s, socket)
	raw := func(packets ...[]byte) *net.UnixConn {
		conn, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: socket, Net: "unixpacket"})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		for _, p := range packets {
			if _, err := conn.Write(p); err != nil {
				t.Fatal(err)
			}
		}
		return conn
	}
	ended := func(why string, conn *net.UnixConn) {
		t.Helper()
		if err := conn.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		for buffer := make([]byte, 4096); ; {
			if _, err := conn.Read(buffer); err != nil {
				if errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("%s: it is still connected", why)
				}
				return
			}
		}
	}
	hello := zds.AppendHello(nil)
	for why, conn := range map[string]*net.UnixConn{
		"no hello":                      raw(),
		"no words":                      raw([]byte("hello")),
		"a later version":               raw([]byte{8, 2}),
		"a huge hello":                  raw(make([]byte, 64<<10)),
		"no acknowledgement":            raw(hello),
		"one that is not":               raw(hello, []byte{8, 1}),
		"two for one":                   raw(hello, zds.AppendAck(nil, ""), zds.AppendAck(nil, "")),
		"an acknowledgement that lasts": raw(hello, zds.AppendAck(nil, ""), make([]byte, 100<<10)),
	} {
		ended(why, conn)
	}

	// One that means well has all the time that it needs.
	socket = filepath.Join(t.TempDir(), "z.sock")
	s = zds.New(zds.Options{}).WithoutPause()
	serve(t, s, socket)
	before := openFiles(t)
	gift := raw(hello)
	if _, _, err := gift.WriteMsgUnix(zds.AppendAck(nil, ""), unix.UnixRights(0, 1, 2), nil); err != nil {
		t.Fatal(err)
	}
	await(t, s, zds.Status{Proxies: 1})
	if extra := openFiles(t) - before; extra > 2 { // the connection has two ends
		t.Errorf("%d descriptors of another are held", extra-2)
	}
	gift.Close()
	await(t, s, zds.Status{})

	p := dial(t, socket)
	expect(t, p, zds.SnapshotSent, "", "")
	for range 20 { // more than there are places
		raw()
	}
	if err := s.Prepare(workload("a"), int(file(t).Fd())); err != nil {
		t.Fatal(err)
	}
	expect(t, p, zds.Add, "a", "")
}

// TestWrongUser: a process of a user who may not connect gets nothing, and has nothing heard.
func TestWrongUser(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "z.sock")
	s := zds.New(zds.Options{Users: []uint32{uint32(os.Getuid()) + 1}}).WithoutPause()
	if err := s.Prepare(workload("a"), int(file(t).Fd())); err != nil {
		t.Fatal(err)
	}
	serve(t, s, socket)
	if p, err := zdstest.Dial(socket); err == nil { // it may be refused before it has said hello
		defer p.Close()
		if r, ns, err := p.Next(); err == nil {
			t.Errorf("%+v with namespace %v", r, ns != nil)
		}
	}
	if got := s.Status(); got.Proxies != 0 {
		t.Errorf("%+v", got)
	}
}

// TestAcceptRate: connections are taken one each 200 ms.
func TestAcceptRate(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "z.sock")
	s := zds.New(zds.Options{})
	serve(t, s, socket)
	start := time.Now()
	for range 4 {
		expect(t, dial(t, socket), zds.SnapshotSent, "", "")
	}
	if took := time.Since(start); took < 600*time.Millisecond {
		t.Errorf("four connections were taken within %s", took)
	}
}

func openFiles(t testing.TB) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}
