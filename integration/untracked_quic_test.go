// SPDX-License-Identifier: Apache-2.0

//go:build linux

package integration

import (
	"bufio"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/weir-mesh/weir/internal/scratch"
)

// buildQUIC builds the program of proxy/testdata/quic, which is a module of its own, where the modules
// that it needs can be had: outside of the namespace that the tests are in.
func buildQUIC(t *testing.T) string {
	t.Helper()
	outside, err := scratch.OpenNamespace(fmt.Sprintf("/proc/%d/ns/net", os.Getppid()))
	if err != nil {
		t.Fatal(err)
	}
	defer outside.Close()
	program := filepath.Join(t.TempDir(), "quic")
	cmd := exec.Command("go", "build", "-o", program, ".")
	cmd.Dir = "../proxy/testdata/quic"
	if err := outside.Do(func() error {
		output, err := cmd.CombinedOutput()
		if err != nil {
			err = fmt.Errorf("%w: %s", err, output)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return program
}

// TestUntrackedQUIC has QUIC clients that change their port in the middle of each connection, both ways
// and in both families, through weir's rules and the project's own proxy. A client wants each answer to
// come from the address that it asked.
func TestUntrackedQUIC(t *testing.T) {
	if !soak {
		t.Skip("builds quic-go (WEIR_SOAK=1); package proxy has it with rules of its own")
	}
	const connections = 1000
	program := buildQUIC(t)
	p := newRealPod(t)
	p.untracked(untrackedConfig + "udp: {outbound: {includePorts: [443], port: 15001}, inbound: {includePorts: [443], port: 15006}}\n")
	out := p.datagrams(15001)
	in := p.datagrams(15006, families[0].pass, families[1].pass)
	_ = os.Chmod(filepath.Dir(program), 0o755) // run by another user
	for _, f := range families {
		asked := f.somewhere(7, 443) // which the server binds
		if err := p.far.AddAddress("far0", netip.PrefixFrom(asked.Addr(), asked.Addr().BitLen())); err != nil {
			t.Fatal(err)
		}
		for _, way := range []struct {
			name           string
			client, server *scratch.Namespace
			to             netip.AddrPort
			flows          interface {
				Range(func(key, value any) bool)
			}
		}{
			{"outbound", p.pod, p.far, asked, out},
			{"inbound", p.far, p.pod, netip.AddrPortFrom(f.pod.Addr(), 443), in},
		} {
			t.Run(way.name+" "+f.name, func(t *testing.T) {
				server := exec.Command(program, "server", way.to.String())
				ready, err := server.StdoutPipe()
				if err != nil {
					t.Fatal(err)
				}
				stop, err := server.StdinPipe()
				if err != nil {
					t.Fatal(err)
				}
				server.Stderr = os.Stderr
				if err := way.server.Do(server.Start); err != nil {
					t.Fatal(err)
				}
				defer func() {
					stop.Close()
					_ = server.Wait() // its clients judge
				}()
				if line, err := bufio.NewReader(ready).ReadString('\n'); err != nil || line != "ready\n" {
					t.Fatalf("the QUIC server says %q, %v", line, err)
				}
				client := exec.Command(program, "client", way.to.String(), strconv.Itoa(connections))
				client.Env = append(os.Environ(), "QUIC_GO_DISABLE_RECEIVE_BUFFER_WARNING=true")
				var output []byte
				err = way.client.Do(func() (err error) {
					output, err = client.CombinedOutput()
					return err
				})
				if err != nil || strings.TrimSpace(string(output)) != strconv.Itoa(connections) {
					t.Fatalf("%v: %s", err, output)
				}
				scratch.Eventually(t, "the proxy has had two flows of each connection", func() bool {
					flows := 0
					way.flows.Range(func(flow, _ any) bool {
						if strings.HasSuffix(flow.(string), " "+way.to.String()) {
							flows++
						}
						return true
					})
					return flows >= 2*connections
				})
			})
		}
	}
	p.untrackedEntries(t)
}
