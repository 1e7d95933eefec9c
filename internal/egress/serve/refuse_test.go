// SPDX-License-Identifier: Apache-2.0

//go:build linux

package serve

import (
	"errors"
	"net"
	"net/netip"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/weir-mesh/weir/internal/scratch"
)

const refusePatience = 20 * time.Second

// TestQUICIsRefused has clients that try HTTP/3 first go on over TCP at once, in both families: to virtual addresses,
// and to any where there is a wildcard.
func TestQUICIsRefused(t *testing.T) {
	program := buildQUIC(t)
	for _, conntrack := range []string{"used", "none"} {
		t.Run(conntrack, func(t *testing.T) {
			s := newScene(t)
			scratch.Must(t, s.start(strings.Replace(usual, "serve:", "serve:\n  conntrack: "+conntrack, 1), "--write-sysctls"))
			for _, to := range []struct{ address, host string }{
				{s.address("oss.example"), "oss.example"},
				{s.addressOf("-6", "oss.example"), "oss.example"},
				{"203.0.113.2", "a.bucket.example"},
			} {
				address := net.JoinHostPort(to.address, "443")
				cmd := exec.Command(program, "get", address, "https://"+to.host+"/", s.ca)
				cmd.Env = append(cmd.Environ(), "QUIC_GO_DISABLE_RECEIVE_BUFFER_WARNING=true")
				var out []byte
				err := s.pod.Do(func() (err error) { out, err = cmd.CombinedOutput(); return err })
				t.Logf("quic-go to %s:\n%s", address, out)
				// An unconnected socket hears of no ICMP error, but sendto(2) fails where a rule of the host refuses.
				s.want("HTTP/3 to "+address, string(out), "operation not permitted", "HTTP/2.0 200 "+to.host)
				if err != nil {
					t.Errorf("to %s: %v", address, err)
				}
				if err := exchange(s.pod, address); !errors.Is(err, syscall.ECONNREFUSED) && !errors.Is(err, syscall.EPERM) {
					t.Errorf("a datagram to %s: %v, want that it is refused", address, err)
				}
			}
		})
	}
}

// TestQUICPasses where the configuration says so, but to virtual addresses.
func TestQUICPasses(t *testing.T) {
	s := newScene(t)
	s.echoDatagrams("203.0.113.2:443")
	scratch.Must(t, s.start(strings.Replace(usual, "serve:", "serve:\n  quic: passed", 1)))
	if err := exchange(s.pod, "203.0.113.2:443"); err != nil {
		t.Errorf("a datagram is not carried: %v", err)
	}
	virtual := net.JoinHostPort(s.address("oss.example"), "443")
	if err := exchange(s.pod, virtual); !errors.Is(err, syscall.ECONNREFUSED) && !errors.Is(err, syscall.EPERM) {
		t.Errorf("a datagram to %s: %v, want that it is refused", virtual, err)
	}
}

// TestQUICOfOthersIsRefused where the namespace is the gateway of others.
func TestQUICOfOthersIsRefused(t *testing.T) {
	s := newScene(t)
	s.echoDatagrams("203.0.113.2:443")
	behind := scratch.ForTest(t)
	scratch.Must(t, scratch.Veth(behind, "eth0", s.pod, "eth1"), behind.Up("lo"), behind.Up("eth0"), s.pod.Up("eth1"),
		behind.AddAddress("eth0", netip.MustParsePrefix("198.51.100.2/24")), s.pod.AddAddress("eth1", netip.MustParsePrefix("198.51.100.1/24")),
		behind.AddRoute(scratch.Route{Dst: netip.MustParsePrefix("0.0.0.0/0"), Via: netip.MustParseAddr("198.51.100.1")}),
		s.world.AddRoute(scratch.Route{Dst: netip.MustParsePrefix("198.51.100.0/24"), Via: netip.MustParseAddr("203.0.113.1")}),
		s.pod.Sysctl("net/ipv4/ip_forward", "1"))
	if err := exchange(behind, "203.0.113.2:443"); err != nil {
		t.Fatalf("before it serves: %v", err)
	}
	scratch.Must(t, s.start(strings.Replace(usual, "serve:", "serve:\n  interfaces: {reroute: [eth1]}", 1)))
	for _, address := range []string{"203.0.113.2:443", net.JoinHostPort(s.address("oss.example"), "443")} {
		if err := exchange(behind, address); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("a datagram to %s: %v, want that it is refused", address, err)
		}
	}
}

// exchange sends a datagram from a namespace and waits for an answer.
func exchange(ns *scratch.Namespace, address string) error {
	return ns.Do(func() error {
		conn, err := net.Dial("udp", address)
		if err != nil {
			return err
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(refusePatience))
		if _, err := conn.Write([]byte{1}); err != nil {
			return err
		}
		_, err = conn.Read(make([]byte, 1))
		return err
	})
}

// echoDatagrams has the world answer datagrams.
func (s *scene) echoDatagrams(address string) {
	s.t.Helper()
	var conn net.PacketConn
	scratch.Must(s.t, s.world.Do(func() (err error) { conn, err = net.ListenPacket("udp", address); return err }))
	s.t.Cleanup(func() { _ = conn.Close() })
	go func() {
		for b := make([]byte, 1500); ; {
			n, from, err := conn.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = conn.WriteTo(b[:n], from)
		}
	}()
}

func buildQUIC(t *testing.T) string {
	t.Helper()
	if testing.Short() {
		t.Skip("builds quic-go")
	}
	program := filepath.Join(t.TempDir(), "quic")
	cmd := exec.Command("go", "build", "-o", program, ".")
	cmd.Dir = "../../../proxy/testdata/quic"
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v: %s", err, out)
	}
	return program
}
