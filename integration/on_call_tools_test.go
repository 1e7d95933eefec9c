// SPDX-License-Identifier: Apache-2.0

//go:build linux

package integration

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weir-mesh/weir/internal/scratch"
)

// firewalldSources is how firewalld drops what does not come from where its answer would go.
const firewalldSources = `table inet firewalld {
  chain mangle_PREROUTING { type filter hook prerouting priority -140;
    icmpv6 type { nd-router-advert, nd-neighbor-solicit } accept
    fib saddr . mark . iif oif missing drop
  }
}
`

// TestTProxySurvivesSourceValidation: what comes in by TPROXY arrives whatever the kernel and
// firewalld compare of its source, and doctor finds nothing in its way.
func TestTProxySurvivesSourceValidation(t *testing.T) {
	p := newRealPod(t)
	p.ok("apply", "--mode", "sidecar", "--proxy-uids", "1337", "--inbound-via", "tproxy")
	defer p.serveWhile(scratch.Listeners{Name: "proxy", Identity: scratch.Identity{UID: proxyID, GID: proxyID}, TCP: []uint16{15001, 15006}, Transparent: []uint16{15006}})()
	arrives := func(when string) {
		t.Helper()
		for _, f := range families {
			if land := p.comesIn(f, 80, boundPatience); land != "proxy:15006" {
				t.Errorf("%s, %s: %s", when, f.name, land)
			}
		}
	}
	for _, firewalld := range []bool{false, true} {
		if firewalld {
			p.nft(firewalldSources)
		}
		for _, mark := range []string{"0", "1"} {
			for _, filter := range []string{"0", "1", "2"} {
				for key, value := range map[string]string{"src_valid_mark": mark, "rp_filter": filter} {
					for _, link := range []string{"all", "eth0"} {
						if err := p.pod.Sysctl("net/ipv4/conf/"+link+"/"+key, value); err != nil {
							t.Fatal(err)
						}
					}
				}
				arrives(fmt.Sprintf("src_valid_mark %s, rp_filter %s, firewalld %v", mark, filter, firewalld))
			}
		}
	}
	p.run("doctor", "--json").prints(t, `"nothing stands in its way`)
}

// TestDoctorReportFile: the report is one bounded file without the namespace's addresses.
func TestDoctorReportFile(t *testing.T) {
	c := newCLI(t)
	c.pod("")
	c.ok("apply", "--mode", "sidecar", "--proxy-uids", "1337", "--outbound-exclude-cidrs", "203.0.113.0/24")
	file := filepath.Join(t.TempDir(), "report.json")
	c.run("doctor", "--report", file)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	const most = 1 << 20
	if len(text) > most || !strings.Contains(string(text), "addr-1") || !strings.Contains(string(text), "all other TCP goes to the outbound listener") {
		t.Errorf("%d bytes: %.400s", len(text), text)
	}
	for _, address := range []string{"192.0.2.2", "192.0.2.1", "203.0.113.0"} {
		if strings.Contains(string(text), address) {
			t.Errorf("the report holds %s", address)
		}
	}
}

// TestDoctorReportIsCut: where a namespace holds more than a report may, the report is bounded, says
// where it is cut, and has weir's own table whole.
func TestDoctorReportIsCut(t *testing.T) {
	c := newCLI(t)
	c.pod("")
	script := "table ip aforeign {\nchain long {\n"
	for i := range 3000 {
		script += fmt.Sprintf("tcp dport %d counter comment \"%0100d\"\n", i+1, i)
	}
	c.nft(script + "}\n}\n")
	routes := ""
	for i := range 600 {
		routes += fmt.Sprintf("route add 198.51.%d.%d/32 dev eth0\n", i/200, i%200)
	}
	c.must(routes, "ip", "-batch", "-")
	c.ok("apply", "--mode", "sidecar", "--proxy-uids", "1337")
	file := filepath.Join(t.TempDir(), "report.json")
	c.run("doctor", "--report", file)
	text := readFile(t, file)
	report := jsonOf[struct {
		Weir, Kernel                          string
		Checks                                []map[string]string
		Tables, Rules, Routes, Links, Sockets []string
		Missing                               []string
	}](t, text)
	const most, lines = 1 << 20, 400
	if len(text) > most {
		t.Errorf("%d bytes", len(text))
	}
	for name, list := range map[string][]string{"tables": report.Tables, "routes": report.Routes} {
		if len(list) != lines+1 || list[lines] != "... and more" {
			t.Errorf("%d %s, the last is %q", len(list), name, list[len(list)-1])
		}
	}
	if !strings.HasPrefix(report.Tables[0], "table inet weir (") || !strings.Contains(text, "all other TCP goes to the outbound listener") {
		t.Errorf("weir's table is not first, or not whole: %.2000s", text)
	}
}

// TestTraceFollowsSYNs: with --syn only what opens a connection is followed, with its user, and
// --count counts connections.
func TestTraceFollowsSYNs(t *testing.T) {
	needUsers(t)
	p := newRealPod(t)
	serveWeb(t, p.far, 0, 80)
	p.ok("apply", "--mode", "sidecar", "--proxy-uids", "1337", "--outbound-exclude-ports", "80")
	run := p.trace("--syn", "--count", "2", "tcp")
	for range 2 {
		conn, err := dialAs(p.pod, appID, appID, netip.Addr{}, families[0].somewhere(1, 80))
		if err == nil {
			_, _ = conn.Write([]byte("GET / HTTP/1.0\r\n\r\n"))
			_ = conn.SetReadDeadline(time.Now().Add(boundPatience))
			_, _ = conn.Read(make([]byte, 1))
			defer conn.Close() // open while the trace asks whose it is
		}
	}
	o := run.ends().want(t, 0)
	o.prints(t, "of uid 1000", " SYN")
	for _, line := range strings.Split(o.out, "\n") {
		if strings.Contains(line, " -> ") && !strings.Contains(line, " SYN") {
			t.Errorf("followed besides: %s", line)
		}
	}
}

// TestExplainWhatEscapes: explain --live --all names what passes the proxy, and the rule.
func TestExplainWhatEscapes(t *testing.T) {
	c := newCLI(t)
	c.pod("")
	c.ok("apply", "--mode", "sidecar", "--proxy-uids", "1337", "--outbound-exclude-ports", "5432")
	c.run("explain", "--live", "--all").want(t, 0).prints(t, "port 5432", "an excluded outbound port is left alone, the proxy's own too")
}
