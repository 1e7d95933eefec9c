// SPDX-License-Identifier: Apache-2.0

//go:build linux

package proxy_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/weir-mesh/weir/proxy"
)

// TestDataStaysInTheKernel counts what a process that does nothing but proxy reads from its sockets
// (rchar of proc_pid_io(5), to which splice(2) does not add). The same proxy that copies through its
// own memory shows that it would be counted.
func TestDataStaysInTheKernel(t *testing.T) {
	if copies := os.Getenv(spliceEnv); copies != "" {
		proxyAlone(t, copies == "memory")
		return
	}
	const size = 32 << 20
	for _, tt := range []struct {
		how    string
		stayed bool
	}{{"kernel", true}, {"memory", false}} {
		t.Run(tt.how, func(t *testing.T) {
			dst := origin(t, "127.0.0.1:0", func(conn *net.TCPConn) { _, _ = io.Copy(io.Discard, conn) })
			pid, addr := startProxy(t, tt.how, dst)
			conn := dial(t, net.Dialer{}, addr)
			write(t, conn, "hello, which is peeked at")
			before := readBytes(t, pid)
			write(t, conn, strings.Repeat("0123456789abcdef", size/16))
			if err := conn.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			if rest, err := io.ReadAll(conn); len(rest) > 0 || err != nil {
				t.Fatalf("read %q, %v", rest, err)
			}
			read := readBytes(t, pid) - before
			if stayed := read < size/100; stayed != tt.stayed {
				t.Errorf("the proxy read %d of %d bytes into its memory", read, size)
			}
		})
	}
}

const spliceEnv = "WEIR_PROXY_TEST_SPLICE" // where a proxy alone leaves its data
const originEnv = "WEIR_PROXY_TEST_ORIGIN" // where it carries it

func startProxy(t *testing.T, how string, dst netip.AddrPort) (pid int, addr netip.AddrPort) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^TestDataStaysInTheKernel$")
	cmd.Env = append(os.Environ(), spliceEnv+"="+how, originEnv+"="+dst.String())
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return cmd.Process.Pid, netip.MustParseAddrPort(strings.TrimSpace(line))
}

// proxyAlone serves until it is killed.
func proxyAlone(t *testing.T, inMemory bool) {
	dst := netip.MustParseAddrPort(os.Getenv(originEnv))
	ln, err := proxy.Listen(t.Context(), netip.MustParseAddrPort("127.0.0.1:0"), proxy.SocketOptions{})
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println(ln.Addr())
	if !inMemory {
		server := &proxy.Server{
			Dial: to(dst, proxy.Dialer{}),
			Peek: func(_ proxy.ConnInfo, first []byte) (any, bool) { return nil, len(first) == 0 },
		}
		t.Fatal(server.Serve(context.Background(), ln))
	}
	client, err := ln.AcceptConn()
	if err != nil {
		t.Fatal(err)
	}
	upstream, err := net.Dial("tcp", dst.String())
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(struct{ io.Writer }{upstream}, struct{ io.Reader }{client})
	client.Close()
	unix.Pause()
}

// readBytes is how much a process has read.
func readBytes(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "rchar: ")
	number, _, _ := strings.Cut(rest, "\n")
	n, err := strconv.Atoi(number)
	if err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return n
}
