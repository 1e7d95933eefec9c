// SPDX-License-Identifier: Apache-2.0

//go:build linux

package integration

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/weir-mesh/weir/internal/scratch"
	"golang.org/x/sys/unix"
)

// realPod is a network namespace with the program, joined by eth0 to another
// one that is the rest of the world.
type realPod struct {
	*cli
	pod, far   *scratch.Namespace
	containers string // the program that starts containers, once there is one
}

// family is what a pod has of one family.
type family struct {
	name     string
	pod, far netip.Prefix
	clients  []netip.Addr // more addresses of the far side
	pass     netip.Addr   // the address from which a proxy calls its application
	world    netip.Prefix // more destinations, which the far side takes for its own
}

var families = []family{
	{"IPv4", netip.MustParsePrefix("198.18.0.2/24"), netip.MustParsePrefix("198.18.0.1/24"),
		addresses("198.18.0.11", "198.18.0.12", "198.18.0.13", "198.18.0.14"), netip.MustParseAddr("127.0.0.6"), netip.MustParsePrefix("203.0.113.0/24")},
	{"IPv6", netip.MustParsePrefix("2001:db8:18::2/64"), netip.MustParsePrefix("2001:db8:18::1/64"),
		addresses("2001:db8:18::11", "2001:db8:18::12", "2001:db8:18::13", "2001:db8:18::14"), netip.MustParseAddr("::6"), netip.MustParsePrefix("2001:db8:99::/120")},
}

func addresses(list ...string) []netip.Addr {
	out := make([]netip.Addr, len(list))
	for i, a := range list {
		out[i] = netip.MustParseAddr(a)
	}
	return out
}

// somewhere is one of 250 destinations of the world's.
func (f family) somewhere(number int, port uint16) netip.AddrPort {
	a := f.world.Addr().AsSlice()
	a[len(a)-1] = byte(1 + number%250)
	addr, _ := netip.AddrFromSlice(a)
	return netip.AddrPortFrom(addr, port)
}

// worldPorts are those that web services of the world listen on.
var worldPorts = []uint16{80, 443, 8000, 8080, 9080}

const (
	appPort = 8080 // of the application in the pod
	appID   = 1000 // the user and group of the application and its callers
	proxyID = 1337

	lastPodPort = 29999 // that the pod's connections are given; the far side's are higher
)

func newRealPod(t testing.TB) *realPod {
	t.Helper()
	needUsers(t)
	p := &realPod{cli: newCLI(t)}
	var err error
	if p.pod, err = scratch.OpenNamespace(fmt.Sprintf("/proc/self/fd/%d", p.file.Fd())); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.pod.Close() })
	if p.far, err = scratch.NewNamespace(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.far.Close() })
	if err := p.join(); err != nil {
		t.Fatal(err)
	}
	p.meet()
	return p
}

func (p *realPod) join() error {
	if err := scratch.Veth(p.pod, "eth0", p.far, "far0"); err != nil {
		return err
	}
	for _, end := range []struct {
		ns   *scratch.Namespace
		link string
	}{{p.pod, "eth0"}, {p.far, "far0"}} {
		err := errors.Join(
			end.ns.Sysctl("net/ipv6/conf/"+end.link+"/accept_dad", "0"), // no host is there to ask
			end.ns.Sysctl("net/ipv4/conf/"+end.link+"/rp_filter", "0"),
			end.ns.Sysctl("net/ipv4/conf/all/rp_filter", "0"),
			end.ns.Up(end.link))
		if err != nil {
			return err
		}
	}
	// A proxy that keeps the client's address must not choose the port of a client
	// that is connected to the same service: the two connections would be one.
	if err := p.pod.Sysctl("net/ipv4/ip_local_port_range", fmt.Sprintf("20000 %d", lastPodPort)); err != nil {
		return err
	}
	if err := p.far.Sysctl("net/ipv4/ip_local_port_range", fmt.Sprintf("%d 60999", lastPodPort+1)); err != nil {
		return err
	}
	for _, f := range families {
		anywhere := netip.PrefixFrom(f.far.Addr(), 0).Masked()
		err := errors.Join(p.pod.AddAddress("eth0", f.pod), p.far.AddAddress("far0", f.far))
		for _, a := range f.clients {
			err = errors.Join(err, p.far.AddAddress("far0", netip.PrefixFrom(a, a.BitLen())))
		}
		err = errors.Join(err, p.pod.AddRoute(scratch.Route{Dst: anywhere, Via: f.far.Addr()}),
			p.far.AddRoute(scratch.Route{Dst: f.world, Local: true, Table: unix.RT_TABLE_LOCAL}))
		if err != nil {
			return err
		}
	}
	return nil
}

// meet waits until packets pass: a link carries them a moment after it is up,
// and the first waits for the neighbour.
func (p *realPod) meet() {
	p.Helper()
	for _, f := range families {
		for end := time.Now().Add(eventPatience); ; time.Sleep(time.Millisecond) {
			_, err := dialAs(p.pod, appID, appID, netip.Addr{}, netip.AddrPortFrom(f.far.Addr(), 1))
			if errors.Is(err, unix.ECONNREFUSED) {
				break
			}
			if time.Now().After(end) {
				p.Fatalf("no way to the far side: %v", err)
			}
		}
	}
}

// dialAs connects from a namespace as some user, from that address if there is
// one.
func dialAs(ns *scratch.Namespace, uid, gid uint32, from netip.Addr, to netip.AddrPort) (conn *net.TCPConn, err error) {
	inside := ns.DoAs(uid, gid, func() error {
		conn, err = dialHere(from, to)
		return nil
	})
	return conn, errors.Join(inside, err)
}

// lostTimeout is how long is waited for what must not come about: a SYN is sent again after a second.
const lostTimeout = 2 * time.Second

// dialHere connects from the calling thread.
func dialHere(from netip.Addr, to netip.AddrPort) (*net.TCPConn, error) {
	d := net.Dialer{Timeout: eventPatience, FallbackDelay: -1}
	if from.IsValid() {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))
	}
	conn, err := d.DialContext(context.Background(), "tcp", to.String())
	if err != nil {
		return nil, err
	}
	return conn.(*net.TCPConn), nil
}

// listenAs listens in a namespace as some user. The listener goes with the test.
func listenAs(t testing.TB, ns *scratch.Namespace, uid, gid uint32, at string) *net.TCPListener {
	t.Helper()
	var ln net.Listener
	err := ns.DoAs(uid, gid, func() (err error) {
		config := net.ListenConfig{}
		config.SetMultipathTCP(false) // which does not tell the original destination
		ln, err = config.Listen(context.Background(), "tcp", at)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln.(*net.TCPListener)
}

// daemon is a program that runs until the test ends.
type daemon struct {
	t      testing.TB
	cmd    *exec.Cmd
	output lockedBuffer
	ended  chan struct{}
}

// lockedBuffer is a buffer that can be read while it is written.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// tool is the path of a program that a test cannot do without.
func tool(t testing.TB, name, pkg string) string {
	t.Helper()
	for _, candidate := range []string{name, filepath.Join("/usr/sbin", name)} {
		if path, err := exec.LookPath(candidate); err == nil {
			return path
		}
	}
	why := fmt.Sprintf("there is no %s (apt-get install %s)", name, pkg)
	if os.Getenv("CI") != "" {
		t.Fatal(why)
	}
	t.Skip(why)
	return ""
}

// serve starts a program in the pod and waits until it listens on those TCP
// ports.
func (p *realPod) serve(c container, ports ...uint16) *daemon {
	p.Helper()
	return p.serveIn(c, nil, ports...)
}

// serveIn is serve in a cgroup, where there is one.
func (p *realPod) serveIn(c container, cgroup *os.File, ports ...uint16) *daemon {
	p.Helper()
	d := &daemon{t: p, cmd: p.containerCommand(c), ended: make(chan struct{})}
	d.cmd.Stdout, d.cmd.Stderr = &d.output, &d.output
	if cgroup != nil {
		d.cmd.SysProcAttr.UseCgroupFD, d.cmd.SysProcAttr.CgroupFD = true, int(cgroup.Fd())
	}
	d.cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL // when the thread ends that started it
	started := make(chan error, 1)
	go func() {
		defer close(d.ended)
		err := p.try(func() error {
			err := d.cmd.Start()
			started <- err
			if err != nil {
				return nil
			}
			_ = d.cmd.Wait() // it is killed
			return nil
		})
		if err != nil {
			started <- err
		}
	}()
	if err := <-started; err != nil {
		p.Fatal(err)
	}
	p.Cleanup(d.stop)
	for end := time.Now().Add(eventPatience); !p.listening(ports); time.Sleep(10 * time.Millisecond) {
		select {
		case <-d.ended:
			p.Fatalf("%s ended: %s", c.Args[0], &d.output)
		default:
		}
		if time.Now().After(end) {
			p.Fatalf("%s does not listen on %v: %s", c.Args[0], ports, &d.output)
		}
	}
	return d
}

// stop ends the program and what it started.
func (d *daemon) stop() {
	_ = syscall.Kill(-d.cmd.Process.Pid, syscall.SIGKILL) // it may have ended
	<-d.ended
	if text := d.output.String(); d.t.Failed() && text != "" {
		d.t.Logf("%s said:\n%s", d.cmd.Args[0], text[max(0, len(text)-4000):])
	}
}

// listening reports whether a program listens on all of the TCP ports, in both
// families.
func (p *realPod) listening(ports []uint16) bool {
	p.Helper()
	for _, file := range []string{"tcp", "tcp6"} {
		open := map[uint16]bool{}
		p.do(func() error {
			text, err := os.ReadFile("/proc/thread-self/net/" + file)
			for _, line := range strings.Split(string(text), "\n") {
				fields := strings.Fields(line)
				if len(fields) < 4 || fields[3] != "0A" { // TCP_LISTEN
					continue
				}
				_, port, _ := strings.Cut(fields[1], ":")
				if b, err := hex.DecodeString(port); err == nil && len(b) == 2 {
					open[binary.BigEndian.Uint16(b)] = true
				}
			}
			return err
		})
		for _, port := range ports {
			if !open[port] {
				return false
			}
		}
	}
	return true
}

// istioInit runs istio-init as the injection template does, in the init
// container.
func (p *realPod) istioInit(args ...string) ran {
	p.Helper()
	r := p.contain(initContainer(append([]string{"istio-iptables"}, args...)...))
	r.want(p, 0)
	return r
}

// injected are the arguments that the injection template always passes, with
// dual stack.
func injected(mode string, more ...string) []string {
	return append([]string{"-p", "15001", "-z", "15006", "-u", strconv.Itoa(proxyID), "-m", mode, "-i", "*", "-x", "", "-b", "*",
		"-d", "15090,15021,15020", "--log_output_level=default:info", "--dual-stack"}, more...)
}
