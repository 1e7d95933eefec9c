// SPDX-License-Identifier: Apache-2.0

//go:build linux

package serve

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weir-mesh/weir/internal/scratch"
)

const (
	portsOfRange = 200
	timesOver    = 6 // connections for each port of the range
	soakConns    = 60_000
	soakPart     = 5_000 // of which the rate is told
	portWorkers  = 8
	firstOwnPort = 16_000 // that clients choose themselves: below the range, above what is listened on
	ownPorts     = 16_000
	portPatience = time.Minute
)

// The addresses of the world's that end connections one way or the other, and of clients.
var (
	byServer = []string{"203.0.113.3:443", "[2001:db8::3]:443"}
	byClient = []string{"203.0.113.4:443", "[2001:db8::4]:443"}
	clients  = [][]string{{"203.0.113.11", "203.0.113.12", "203.0.113.13", "203.0.113.14"}, {"2001:db8::11", "2001:db8::12", "2001:db8::13", "2001:db8::14"}}
)

const portsConfiguration = `
version: 1
mode: egress
serve:
  conntrack: CONNTRACK
  dns: {upstream: ["203.0.113.2:53"]}
  virtual: {state: DIR/state.json}
  ca: DIR/ca.pem
  hosts:
  - {name: oss.example, originate: {80: 443, 81: 9443}}
  - {name: "*.bucket.example"}
`

// TestPortsNeverRunOut opens several times as many connections to one address as the namespace has ports,
// with each of the ends the first to close: TIME_WAIT is a minute, and none may fail or be delayed by it.
// WEIR_SOAK has 60,000 with the usual ports, and tells the rate of the first and of the last of them.
func TestPortsNeverRunOut(t *testing.T) {
	hello := clientHello(t, wildcardName)
	for _, c := range []struct {
		what string
		call func(*scene) func() error
	}{
		{"the server ends first over IPv4", func(*scene) func() error { return relayed(hello, byServer[0], nil) }},
		{"the server ends first over IPv6", func(*scene) func() error { return relayed(hello, byServer[1], nil) }},
		{"the client ends first over IPv4", func(*scene) func() error { return relayed(hello, byClient[0], clients[0]) }},
		{"the client ends first over IPv6", func(*scene) func() error { return relayed(hello, byClient[1], clients[1]) }},
		{"http to https", func(s *scene) func() error { return s.requested("80") }},
		{"http to https by one request a connection", func(s *scene) func() error { return s.requested("81") }},
	} {
		for _, conntrack := range []string{"used", "none"} {
			t.Run(c.what+" with conntrack "+conntrack, func(t *testing.T) {
				s, connections := portsScene(t, len(hello), conntrack)
				call := c.call(s)
				before := s.retransmitted()
				ended, longest := s.callMany(connections, call)
				// Some are asked for again after milliseconds: the last packet of the connection before from
				// that port may still be on its way.
				if again := s.retransmitted() - before; again > connections/50 {
					t.Errorf("%d of %d connections were asked for again, the longest took %s", again, connections, longest)
				}
				if connections == soakConns {
					first, last := ended[soakPart].Sub(ended[0]), ended[connections-1].Sub(ended[connections-1-soakPart])
					t.Logf("%d connections: the first %d at %.0f/s, the last at %.0f/s; the longest took %s", connections, soakPart, soakPart/first.Seconds(), soakPart/last.Seconds(), longest)
				}
			})
		}
	}
}

// portsScene is a pod with few ports, and a world that ends connections in each way.
func portsScene(t *testing.T, hello int, conntrack string) (s *scene, connections int) {
	t.Helper()
	s = newScene(t)
	connections = soakConns
	if os.Getenv("WEIR_SOAK") == "" {
		connections = portsOfRange * timesOver
		scratch.Must(t, s.pod.Sysctl("net/ipv4/ip_local_port_range", fmt.Sprintf("40000 %d", 40000+portsOfRange-1)))
	}
	for i, bits := range []int{24, 64} {
		for _, client := range clients[i] {
			scratch.Must(t, s.pod.AddAddress("eth0", netip.PrefixFrom(netip.MustParseAddr(client), bits)))
		}
		for _, server := range []string{byServer[i], byClient[i]} {
			scratch.Must(t, s.world.AddAddress("eth0", netip.PrefixFrom(netip.MustParseAddrPort(server).Addr(), bits)))
		}
		s.listen(byServer[i], func(conn net.Conn) {
			if _, err := io.ReadFull(conn, make([]byte, hello)); err == nil {
				_, _ = conn.Write([]byte{1})
			}
		})
		s.listen(byClient[i], func(conn net.Conn) { _, _ = io.Copy(conn, conn) })
	}
	s.listenClosing()
	scratch.Must(t, s.start(strings.Replace(portsConfiguration, "CONNTRACK", conntrack, 1), "--write-sysctls"))
	return s, connections
}

// relayed opens connections with a ClientHello: from ports that the kernel chooses, or from the clients'
// addresses and ports of their own choice, which then end first.
func relayed(hello []byte, to string, clients []string) func() error {
	var opened atomic.Int64
	return func() error {
		if clients == nil {
			return relayedOnce(netip.AddrPort{}, to, hello)
		}
		n := int(opened.Add(1))
		client := netip.MustParseAddr(clients[n/ownPorts%len(clients)])
		return relayedOnce(netip.AddrPortFrom(client, uint16(firstOwnPort+n%ownPorts)), to, hello)
	}
}

// requested asks oss.example at a port, over a connection of its own.
func (s *scene) requested(port string) func() error {
	address := net.JoinHostPort(s.address("oss.example"), port)
	return func() error {
		conn, err := net.DialTimeout("tcp", address, portPatience)
		if err != nil {
			return err
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(portPatience))
		if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: oss.example\r\nConnection: close\r\n\r\n"); err != nil {
			return err
		}
		answer, err := io.ReadAll(conn)
		if err == nil && !strings.HasPrefix(string(answer), "HTTP/1.1 200 ") {
			err = fmt.Errorf("answered %q", answer)
		}
		return err
	}
}

// relayedOnce sends a ClientHello. Where the source is its own choice it ends its stream then.
func relayedOnce(from netip.AddrPort, to string, hello []byte) error {
	dialer := net.Dialer{Timeout: portPatience}
	if from.IsValid() {
		dialer.LocalAddr = net.TCPAddrFromAddrPort(from)
	}
	conn, err := dialer.Dial("tcp", to)
	if err != nil {
		return err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(portPatience))
	if _, err := conn.Write(hello); err != nil {
		return err
	}
	if from.IsValid() {
		if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
			return err
		}
	}
	return receive(conn, 1)
}

// callMany has some workers call from the pod, and returns when each call ended, and how long the longest took.
func (s *scene) callMany(n int, call func() error) (ended []time.Time, longest time.Duration) {
	s.t.Helper()
	var mu sync.Mutex
	var begun atomic.Int64
	wrong := make([]error, portWorkers)
	var all sync.WaitGroup
	for i := range wrong {
		all.Go(func() {
			wrong[i] = s.pod.Do(func() error {
				for one := begun.Add(1); one <= int64(n); one = begun.Add(1) {
					at := time.Now()
					if err := call(); err != nil {
						return fmt.Errorf("connection %d: %w", one, err)
					}
					mu.Lock()
					ended = append(ended, time.Now())
					longest = max(longest, time.Since(at))
					mu.Unlock()
				}
				return nil
			})
		})
	}
	all.Wait()
	scratch.Must(s.t, errors.Join(wrong...))
	return ended, longest
}

// listen has the world serve at an address.
func (s *scene) listen(address string, serve func(net.Conn)) {
	s.t.Helper()
	var ln net.Listener
	scratch.Must(s.t, s.world.Do(func() (err error) { ln, err = net.Listen("tcp", address); return err }))
	s.t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_ = conn.SetDeadline(time.Now().Add(portPatience))
				serve(conn)
			}()
		}
	}()
}

// listenClosing has the world serve HTTPS with an answer a connection, which the client of that is to end.
func (s *scene) listenClosing() {
	s.t.Helper()
	config := &tls.Config{Certificates: []tls.Certificate{s.certificate}}
	s.listen("203.0.113.2:9443", func(conn net.Conn) {
		c := tls.Server(conn, config)
		if _, err := http.ReadRequest(bufio.NewReader(c)); err != nil {
			return
		}
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")
		_, _ = io.Copy(io.Discard, c)
	})
}

// address is the virtual one of a host, of IPv4.
func (s *scene) address(host string) string {
	s.t.Helper()
	return s.addressOf("-4", host)
}

// addressOf is that of the family that curl is told.
func (s *scene) addressOf(family, host string) string {
	s.t.Helper()
	said := s.curl(family, "https://"+host+"/")
	_, address, _ := strings.Cut(said, "[200 ")
	address, _, found := strings.Cut(address, " ")
	if !found {
		s.t.Fatalf("curl said %q", said)
	}
	return address
}

// retransmitted is how many times the pod has sent a SYN again.
func (s *scene) retransmitted() (n int) {
	s.t.Helper()
	var text []byte
	scratch.Must(s.t, s.pod.Do(func() (err error) { text, err = os.ReadFile("/proc/thread-self/net/netstat"); return err }))
	var names []string
	for line := range strings.Lines(string(text)) {
		words := strings.Fields(line)
		if words[0] != "TcpExt:" {
			continue
		}
		if names == nil {
			names = words
			continue
		}
		for i, name := range names {
			if name == "TCPSynRetrans" {
				n, err := strconv.Atoi(words[i])
				scratch.Must(s.t, err)
				return n
			}
		}
	}
	s.t.Fatalf("the kernel does not count TCPSynRetrans:\n%s", text)
	return 0
}
