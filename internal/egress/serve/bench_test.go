// SPDX-License-Identifier: Apache-2.0

//go:build linux

package serve

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/weir-mesh/weir/internal/bench/paired"
	"github.com/weir-mesh/weir/internal/scratch"
	"golang.org/x/sys/unix"
)

const (
	benchRounds  = 15
	benchConns   = 400 // of a round
	benchWorkers = 8
	benchBulk    = 64 << 20          // bytes of a round
	rawServer    = "203.0.113.3:443" // reads a ClientHello and sends bytes
	haproxyUser  = 1500              // by which its own connections pass
	originated   = "oss.example"
	wildcardName = "a.bucket.example"
)

// contender is a proxy in a pod of its own.
type contender struct {
	scene *scene
	pid   int
	http  string // where a request for a host that is originated goes
}

// workload is what both do; it returns how much was done: connections, or bytes.
type workload struct {
	name, unit string
	scale      float64 // from nanoseconds for one, or for a byte
	run        func(contender) (done float64, err error)
}

// BenchmarkServe compares the processor time of weir-egress serve with that of HAProxy, which does the
// same: connections that are relayed, and counted by the name in their ClientHello; requests that go on
// over verified TLS; and the bytes of both. They take turns, and which is first alternates.
func BenchmarkServe(b *testing.B) {
	if _, err := exec.LookPath("haproxy"); err != nil {
		b.Skip("needs haproxy")
	}
	weir, haproxy := weirContender(b), haproxyContender(b)
	hello := clientHello(b, wildcardName)
	workloads := []workload{
		{"relay by SNI", "us a connection", 1e-3, func(c contender) (float64, error) { return c.connections(func() error { return relayOnce(hello, 1) }) }},
		{"relay by SNI, bulk", "s a GB", 1, func(c contender) (float64, error) {
			return benchBulk, c.inPod(func() error { return relayOnce(hello, benchBulk) })
		}},
		{"http to https", "us a connection", 1e-3, func(c contender) (float64, error) {
			return c.connections(func() error { return requestOnce(c.http, "/", 0) })
		}},
		{"http to https, bulk", "s a GB", 1, func(c contender) (float64, error) {
			return benchBulk, c.inPod(func() error { return requestOnce(c.http, "/bulk", benchBulk) })
		}},
	}
	for _, w := range workloads {
		b.Run(w.name, func(b *testing.B) {
			for b.Loop() {
				compare(b, w, weir, haproxy)
			}
		})
	}
}

// compare runs the workload on both in turns.
func compare(b *testing.B, w workload, weir, haproxy contender) {
	b.Helper()
	costs, rates := map[int][]float64{}, map[int][]float64{} // by process
	for round := range benchRounds + 1 {
		turn := []contender{weir, haproxy}
		if round%2 == 1 {
			turn[0], turn[1] = haproxy, weir
		}
		for _, c := range turn {
			before, began := processTime(b, c.pid), time.Now()
			done, err := w.run(c)
			scratch.Must(b, err)
			cost, took := processTime(b, c.pid)-before, time.Since(began)
			if round > 0 { // the first one warms up
				costs[c.pid] = append(costs[c.pid], w.scale*float64(cost.Nanoseconds())/done)
				rates[c.pid] = append(rates[c.pid], done/took.Seconds())
			}
		}
	}
	ours, theirs := costs[weir.pid], costs[haproxy.pid]
	b.Logf("weir %6.2f, haproxy %6.2f %s: %s; a second %.4g and %.4g", paired.Median(ours), paired.Median(theirs), w.unit,
		paired.Ratio(ours, theirs), paired.Median(rates[weir.pid]), paired.Median(rates[haproxy.pid]))
}

// processTime is what all threads of a process have used.
func processTime(b *testing.B, pid int) time.Duration {
	b.Helper()
	const scheduled = 2 // CPUCLOCK_SCHED of linux/posix-timers.h
	var t unix.Timespec
	scratch.Must(b, unix.ClockGettime(int32(^pid<<3|scheduled), &t))
	return time.Duration(t.Nano())
}

// inPod calls from the pod.
func (c contender) inPod(call func() error) error { return c.scene.pod.Do(call) }

// connections calls from the pod as often as a round has it.
func (c contender) connections(call func() error) (float64, error) {
	var left atomic.Int64
	left.Store(benchConns)
	var workers sync.WaitGroup
	wrong := make([]error, benchWorkers)
	for i := range wrong {
		workers.Go(func() {
			wrong[i] = c.inPod(func() error {
				for left.Add(-1) >= 0 {
					if err := call(); err != nil {
						return err
					}
				}
				return nil
			})
		})
	}
	workers.Wait()
	return benchConns, errors.Join(wrong...)
}

// relayOnce sends a ClientHello, and how many MiB it wants: of 0 it gets a byte.
func relayOnce(hello []byte, size int) error {
	conn, err := net.Dial("tcp", rawServer)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := conn.Write(append(hello[:len(hello):len(hello)], byte(size>>20))); err != nil {
		return err
	}
	return receive(conn, int64(size))
}

// requestOnce asks for a path of the host that is originated, over a connection of its own.
func requestOnce(address, path string, size int64) error {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", path, originated); err != nil {
		return err
	}
	return receive(conn, size)
}

// receive reads until the end, so many bytes at least.
func receive(conn net.Conn, size int64) error {
	n, err := io.Copy(io.Discard, conn)
	if err == nil && n < max(size, 1) {
		err = fmt.Errorf("%d bytes of %d", n, size)
	}
	return err
}

// clientHello is one of TLS for a name, as crypto/tls sends it.
func clientHello(b testing.TB, name string) []byte {
	b.Helper()
	here, there := net.Pipe()
	defer here.Close()
	go func() {
		_ = tls.Client(there, &tls.Config{ServerName: name}).Handshake() // which ends with the pipe
		there.Close()
	}()
	hello := make([]byte, 16<<10)
	n, err := here.Read(hello)
	scratch.Must(b, err)
	return hello[:n]
}

// benchScene is a scene whose world serves bytes besides, to whoever sends a ClientHello.
func benchScene(b *testing.B) *scene {
	b.Helper()
	s := newScene(b)
	at := netip.MustParseAddrPort(rawServer)
	scratch.Must(b, s.world.AddAddress("eth0", netip.PrefixFrom(at.Addr(), 24)))
	var ln net.Listener
	scratch.Must(b, s.world.Do(func() (err error) { ln, err = net.Listen("tcp", rawServer); return err }))
	b.Cleanup(func() { _ = ln.Close() })
	length := len(clientHello(b, wildcardName))
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go sendBytes(conn, length)
		}
	}()
	return s
}

func sendBytes(conn net.Conn, hello int) {
	defer conn.Close()
	asked := make([]byte, hello+1)
	if _, err := io.ReadFull(conn, asked); err != nil {
		return
	}
	answer := make([]byte, max(1, int(asked[hello])<<20))
	_, _ = conn.Write(answer) // the client counts them
}

func weirContender(b *testing.B) contender {
	b.Helper()
	s := benchScene(b)
	scratch.Must(b, s.start(usual))
	return contender{s, s.serving.Process.Pid, s.address(originated) + ":80"}
}

// haproxyConfiguration has HAProxy do what the usual configuration has weir-egress do: names are
// counted in a table, connections to hosts are verified and used again.
const haproxyConfiguration = `global
	maxconn 4096
defaults
	timeout connect 10s
	timeout client 1h
	timeout server 1h
frontend sni
	mode tcp
	bind :15001
	stick-table type string len 64 size 4k expire 1h store conn_cnt,bytes_in_cnt,bytes_out_cnt
	tcp-request inspect-delay 300ms
	tcp-request content accept if !{ req.ssl_hello_type 1 }
	tcp-request content track-sc0 req.ssl_sni
	default_backend away
backend away
	mode tcp
	option transparent
frontend plain
	mode http
	bind :15002
	default_backend originated
backend originated
	mode http
	http-reuse always
	stick-table type string len 64 size 4k expire 1h store http_req_cnt,bytes_in_cnt,bytes_out_cnt
	http-request track-sc1 req.hdr(host)
	server host 203.0.113.2:443 ssl verify required ca-file CA verifyhost oss.example sni str(oss.example) alpn h2,http/1.1
`

const haproxyRules = `table ip redirects {
	chain output {
		type nat hook output priority -100
		meta skuid USER return
		tcp dport 443 redirect to :15001
		tcp dport 80 redirect to :15002
	}
}
`

func haproxyContender(b *testing.B) contender {
	b.Helper()
	s := benchScene(b)
	scratch.Must(b, os.Chmod(filepath.Dir(s.dir), 0o755), os.Chmod(s.dir, 0o755), s.pod.Do(func() error {
		load := exec.Command("nft", "-f", "-")
		load.Stdin = strings.NewReader(strings.ReplaceAll(haproxyRules, "USER", strconv.Itoa(haproxyUser)))
		return load.Run()
	}))
	path := filepath.Join(s.dir, "haproxy.cfg")
	scratch.Must(b, os.WriteFile(path, []byte(strings.ReplaceAll(haproxyConfiguration, "CA", s.ca)), 0o644))
	cmd := exec.Command("haproxy", "-db", "-f", path)
	cmd.Stderr = &s.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: haproxyUser, Gid: haproxyUser}}
	scratch.Must(b, s.pod.Do(cmd.Start))
	b.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if b.Failed() {
			b.Logf("haproxy said:\n%s", s.log.String())
		}
	})
	c := contender{s, cmd.Process.Pid, "203.0.113.2:80"}
	scratch.Eventually(b, "HAProxy", func() bool {
		return c.inPod(func() error { return requestOnce(c.http, "/", 0) }) == nil
	})
	return c
}
