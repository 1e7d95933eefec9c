// SPDX-License-Identifier: Apache-2.0

//go:build linux

package serve

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/weir-mesh/weir/internal/scratch"
)

// TestThreadsSleepLonger has all threads of the program sleep as it says, those of the runtime too.
func TestThreadsSleepLonger(t *testing.T) {
	s := newScene(t)
	scratch.Must(t, s.start(usual))
	threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", s.serving.Process.Pid))
	scratch.Must(t, err)
	if len(threads) < 2 {
		t.Errorf("%d threads, and the runtime has more", len(threads))
	}
	for _, thread := range threads {
		slack, err := os.ReadFile("/proc/" + thread.Name() + "/timerslack_ns")
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue // it has ended
		}
		if scratch.Must(t, err); strings.TrimSpace(string(slack)) != "2000000" {
			t.Errorf("thread %s has a timer slack of %s", thread.Name(), slack)
		}
	}
}

// TestSeed has the three cases of those who asked for it: https by name counted per host, http to
// https counted by code, a wildcard by what clients ask for; in the names that dashboards know.
func TestSeed(t *testing.T) {
	s := newScene(t)
	scratch.Must(t, s.start(usual))
	s.want("https", s.curl("-4", "https://oss.example/"), "oss.example by HTTP/2.0 [200 240.240.")
	s.want("http", s.curl("-4", "http://oss.example/"), "oss.example by HTTP/2.0 [200 240.240.")
	s.want("https, a server of HTTP/3", s.curl("-4", "-i", "https://oss.example/"), `alt-svc: h3=":443"`)
	if said := s.curl("-4", "-i", "http://oss.example/"); strings.Contains(strings.ToLower(said), "alt-svc") || !strings.Contains(said, "200 OK") {
		t.Errorf("http, a server of HTTP/3: %q", said)
	}
	s.want("http, a code", s.curl("-4", "http://oss.example/missing"), "[404 240.240.")
	s.want("a wildcard", s.curl("-4", "https://a.bucket.example/"), "a.bucket.example by HTTP/2.0 [200 203.0.113.2")
	s.want("IPv6", s.curl("-6", "https://oss.example/big", "-o", "/dev/null"), "[200 2001:2::")
	s.want("any port", s.curl("-4", "https://oss.example:8443/"), "[200 240.240.")
	s.want("not captured", s.curl("--resolve", "other.example:8443:203.0.113.2", "https://other.example:8443/"), "[200 203.0.113.2")
	s.want("a certificate of another", s.curl("-4", "http://wrong.example/"), "[502 ", "certificate is valid for oss.example")
	s.want("a resolver that lies", s.curl("-4", "https://liar.example/"), "[000 ")
	s.want("a name that is not there", s.curl("https://nobody.example/"), "Could not resolve host")
	s.want("a body both ways", s.curl("-4", "--data-binary", "@"+s.program, "-o", filepath.Join(s.dir, "back"), "http://oss.example/echo"), "[200 ")
	sent, err := os.ReadFile(s.program)
	scratch.Must(t, err)
	if back, err := os.ReadFile(filepath.Join(s.dir, "back")); err != nil || !bytes.Equal(back, sent) {
		t.Errorf("%d bytes came back of %d: %v", len(back), len(sent), err)
	}

	const labels = `destination_service_namespace="unknown",destination_cluster="unknown",request_protocol="`
	counted := []string{
		`istio_tcp_connections_closed_total{reporter="source",source_app="ping",source_workload="ping",source_workload_namespace="unknown",destination_app="unknown",destination_service="a.bucket.example"`,
		`destination_service="oss.example",destination_service_name="oss.example",` + labels + `http",response_flags="-",name_source="vip",response_code="404",method="GET"} 1`,
		`istio_requests_total{reporter="source",source_app="ping",source_workload="ping",source_workload_namespace="unknown",destination_app="unknown",destination_service="wrong.example",destination_service_name="wrong.example",` + labels + `http",response_flags="-",name_source="vip",response_code="502",method="GET"} 1`,
		`destination_service="a.bucket.example",destination_service_name="a.bucket.example",` + labels + `tcp",response_flags="-",name_source="sni"}`,
	}
	text := ""
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(text)
		}
	})
	// A client has its answer before it is counted, and a connection's bytes are counted as it ends.
	scratch.Eventually(t, "everything is counted", func() bool {
		text = s.metrics()
		return !slices.ContainsFunc(counted, func(series string) bool { return !strings.Contains(text, series) }) &&
			total(text, "istio_tcp_sent_bytes_total", "oss.example") >= 1<<20
	})
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "istio_") && !strings.Contains(line, "_bucket{") && !strings.Contains(line, "_sum{") {
			t.Log(strings.TrimSpace(line))
		}
	}
	if n := total(text, "istio_tcp_sent_bytes_total", "oss.example"); n > 1<<20+30_000 {
		t.Errorf("%d bytes were received of oss.example", n)
	}

	scratch.Must(t, s.serving.Process.Signal(syscall.SIGTERM))
	scratch.Eventually(t, "the capture is given up", func() bool {
		out := ""
		_ = s.pod.Do(func() error {
			b, err := exec.Command("nft", "list", "ruleset").CombinedOutput()
			out = string(b)
			return err
		})
		return out == ""
	})
}

// total is the value of the series of a host, of TCP.
func total(text, name, host string) (n int) {
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, name+"{") && strings.Contains(line, `"`+host+`"`) {
			var value int
			if _, err := fmt.Sscan(line[strings.LastIndex(line, " ")+1:], &value); err == nil {
				n += value
			}
		}
	}
	return n
}

// TestAddressesStay over restarts, whatever hosts come; and what is wrong is said without anything lost.
func TestAddressesStay(t *testing.T) {
	s := newScene(t)
	scratch.Must(t, s.start(usual))
	before := s.curl("-4", "https://oss.example/", "-o", "/dev/null")
	s.stop()
	scratch.Must(t, s.start(strings.Replace(usual, "hosts:", "hosts:\n  - {name: aaa.example}\n  - {name: bbb.example}", 1)))
	if after := s.curl("-4", "https://oss.example/", "-o", "/dev/null"); after != before || !strings.Contains(after, "[200 ") {
		t.Errorf("it was %s, and is %s", before, after)
	}
	s.silent.Store(true)
	s.want("a silent resolver", s.curl("https://new.example/"), "Could not resolve host")
	s.want("a host with a virtual address, meanwhile", s.curl("-4", "http://oss.example/"), "[502 ")
	s.silent.Store(false)
	s.want("it is back", s.curl("-4", "http://oss.example/"), "[200 ")
	s.stop()

	state := filepath.Join(s.dir, "state.json")
	whole, err := os.ReadFile(state)
	scratch.Must(t, err, os.WriteFile(state, whole[:len(whole)/2], 0o600))
	if err := s.start(usual); err == nil || !strings.Contains(err.Error(), "not a whole file") || !strings.Contains(err.Error(), "exit status 1") {
		t.Errorf("a state file cut short: %v", err)
	}
	scratch.Must(t, os.WriteFile(state, whole, 0o600), s.pod.AddAddress("eth0", netip.MustParsePrefix("240.240.7.7/24")))
	if err := s.start(usual); err == nil || !strings.Contains(err.Error(), "240.240.7.7/24 of eth0 is in use") || !strings.Contains(err.Error(), "exit status 2") {
		t.Errorf("a prefix in use: %v", err)
	}
}

// TestUntracked has virtual addresses, origination and a wildcard without connection tracking.
func TestUntracked(t *testing.T) {
	s := newScene(t)
	scratch.Must(t, s.start(strings.Replace(usual, "serve:", "serve:\n  conntrack: none", 1), "--write-sysctls"))
	s.want("https", s.curl("-4", "https://oss.example/"), "oss.example by HTTP/2.0 [200 240.240.")
	s.want("http", s.curl("-4", "http://oss.example/"), "oss.example by HTTP/2.0 [200 240.240.")
	s.want("a wildcard", s.curl("-4", "https://a.bucket.example/"), "a.bucket.example by HTTP/2.0 [200 203.0.113.2")
	s.want("IPv6", s.curl("-6", "https://oss.example/"), "[200 2001:2::")
	s.want("any port", s.curl("-4", "https://oss.example:8443/"), "[200 240.240.")
	flows, err := s.pod.Conntrack()
	scratch.Must(t, err)
	if len(flows) > 0 {
		t.Errorf("%d connections are tracked", len(flows))
	}
}
