// SPDX-License-Identifier: Apache-2.0

//go:build linux

package proxy_test

import (
	"bufio"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/weir-mesh/weir/internal/scratch"
	"github.com/weir-mesh/weir/proxy"
)

// quicEnv is where the program of testdata/quic is, which has been built before the test moves into
// a namespace that reaches nothing.
const quicEnv = "WEIR_PROXY_TEST_QUIC"

func buildQUIC(t *testing.T) {
	t.Helper()
	if os.Getenv(quicEnv) != "" {
		return
	}
	if testing.Short() {
		t.Skip("builds quic-go")
	}
	program := filepath.Join(t.TempDir(), "quic")
	build := exec.Command("go", "build", "-o", program, ".")
	build.Dir = filepath.Join("testdata", "quic")
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v: %s", err, output)
	}
	t.Setenv(quicEnv, program)
}

// TestUDPRelaysQUIC has QUIC clients that change their port in the middle of each connection, in both
// directions: the server validates the new path, and each answer comes from the address asked.
func TestUDPRelaysQUIC(t *testing.T) {
	buildQUIC(t)
	if !inNamespace(t, "nft", "ip") {
		return
	}
	connections := 50
	if os.Getenv("WEIR_SOAK") != "" {
		connections = 1000
	}
	world := udpWorld(t)
	pod, err := scratch.CurrentNamespace()
	if err != nil {
		t.Fatal(err)
	}
	defer pod.Close()
	options := proxy.SocketOptions{Transparent: true, Mark: proxyMark}
	pass := []netip.Addr{udpFamilies[0].pass, udpFamilies[1].pass}
	for _, way := range []struct {
		name           string
		listen         string
		dialer         proxy.Dialer
		client, server *scratch.Namespace
		ask            func(udpFamily) netip.Addr
	}{
		{"outbound", "[::]:15001", proxy.Dialer{Mark: proxyMark}, pod, world, func(f udpFamily) netip.Addr { return f.world }},
		{"inbound", "[::]:15006", proxy.Dialer{Mark: proxyMark, Source: pass}, world, pod, func(f udpFamily) netip.Addr { return f.pod }},
	} {
		t.Run(way.name, func(t *testing.T) {
			ln, err := proxy.ListenUDP(t.Context(), netip.MustParseAddrPort(way.listen), options)
			if err != nil {
				t.Fatal(err)
			}
			served := make(chan error, 1)
			go func() { served <- (&proxy.UDPServer{Dial: way.dialer.DialUDP}).Serve(t.Context(), ln) }()
			for _, f := range udpFamilies {
				before := ln.Stats()
				dst := netip.AddrPortFrom(way.ask(f), 443)
				serveQUIC(t, way.server, dst)
				output, err := quicCommand(t, way.client, "client", dst.String(), strconv.Itoa(connections))
				if err != nil || strings.TrimSpace(output) != strconv.Itoa(connections) {
					t.Fatalf("%s: %v: %s\n%+v", f.name, err, output, ln.Stats())
				}
				after := ln.Stats()
				if opened := after.Opened - before.Opened; opened < 2*uint64(connections) {
					t.Errorf("%s: %d flows, want two of each of %d connections", f.name, opened, connections)
				}
				t.Logf("%s: %+v", f.name, after)
			}
		})
	}
}

func serveQUIC(t *testing.T, ns *scratch.Namespace, at netip.AddrPort) {
	t.Helper()
	cmd := exec.Command(os.Getenv(quicEnv), "server", at.String())
	in, err := cmd.StdinPipe() // ends with this process
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := ns.Do(cmd.Start); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("the QUIC server: %v", err)
		}
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("the QUIC server says %q, %v", line, err)
	}
}

func quicCommand(t *testing.T, ns *scratch.Namespace, args ...string) (string, error) {
	t.Helper()
	cmd := exec.Command(os.Getenv(quicEnv), args...)
	cmd.Env = append(os.Environ(), "QUIC_GO_DISABLE_RECEIVE_BUFFER_WARNING=true")
	var output []byte
	err := ns.Do(func() (err error) {
		output, err = cmd.CombinedOutput()
		return err
	})
	return string(output), err
}
