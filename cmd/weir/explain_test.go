// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weir-mesh/weir/explain"
)

// podConfig is a sidecar's configuration in a file.
func podConfig(t *testing.T, more string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "pod.yaml")
	if err := os.WriteFile(name, []byte("version: 1\nmode: sidecar\nproxy: {uids: [1337], gids: [1337]}\n"+more), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// weir runs a command of the program in this process.
func weir(t *testing.T, stdin string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs strings.Builder
	code = run(t.Context(), append([]string{"weir"}, args...), streams{strings.NewReader(stdin), &out, &errs})
	return code, out.String(), errs.String()
}

func TestExplain(t *testing.T) {
	config := podConfig(t, "outbound: {excludePorts: [9411]}\n")
	for _, tt := range []struct {
		why  string
		args []string
		want []string
	}{
		{"what the application opens is captured", []string{"--uid", "1000", "tcp", "10.0.0.1:443"},
			[]string{"tcp 10.244.1.5 -> 10.0.0.1:443, opened by uid 1000", "nat -100", "captured: lands on the outbound listener, port 15001; original destination 10.0.0.1:443"}},
		{"flags may follow the packet", []string{"tcp", "10.0.0.1:443", "--uid", "1337"},
			[]string{"opened by uid 1337, leaving by eth0", `"the proxy's own traffic is not captured"`, "left alone: leaves by eth0"}},
		{"what comes in is captured", []string{"--in", "eth0", "--from", "203.0.113.7", "tcp", "10.0.0.9:8080"},
			[]string{"arriving on eth0", "captured: lands on the inbound listener, port 15006; original destination 10.0.0.9:8080"}},
		{"one word may hold the packet", []string{"--uid", "1000", "tcp [2001:db8::1]:9411"},
			[]string{"tcp 2001:db8:244:1::5 -> [2001:db8::1]:9411", "left alone: leaves by eth0"}},
		{"a configuration's flags win", []string{"--outbound-via", "none", "tcp", "10.0.0.1:443"}, []string{"left alone: leaves by eth0"}},
		{"the pod's own addresses can be said", []string{"--address", "eth7=192.0.2.9/24", "--uid", "1000", "tcp", "192.0.2.9:80"},
			[]string{"left alone: delivered to 192.0.2.9:80"}},
		{"names are those of /etc", []string{"--outbound-exclude-uids", "root", "tcp", "10.0.0.1:443"}, []string{"an excluded user's traffic is left alone"}},
		{"Markdown is for reviews", []string{"--markdown", "tcp", "10.0.0.1:443"},
			[]string{"| hook | chain | rule | reason | does |", "| `redirect to :15001` |", "captured: lands on"}},
	} {
		code, out, errs := weir(t, "", append([]string{"explain", "--config", config}, tt.args...)...)
		if code != exitDone {
			t.Errorf("%s: exit %d: %s", tt.why, code, errs)
		}
		for _, want := range tt.want {
			if !strings.Contains(out, want) {
				t.Errorf("%s: no %q in\n%s", tt.why, want, out)
			}
		}
	}
}

func TestExplainRefuses(t *testing.T) {
	config := podConfig(t, "")
	for _, tt := range []struct {
		args []string
		want []string
	}{
		{[]string{}, []string{`"" is not a packet`}},
		{[]string{"tcp", "10.0.0.0/8:443"}, []string{"more than one destination"}},
		{[]string{"--uid", "me", "--mark", "x", "tcp", "10.0.0.1:70000"}, []string{`--uid: "me" is not a numeric ID`, `"x" is not a mark`, `"70000" is not a port`}},
		{[]string{"--in", "eth0", "tcp", "10.0.0.1:443"}, []string{"needs a source address"}},
		{[]string{"--in", "eth0", "--uid", "5", "--from", "::1", "tcp", "10.0.0.1:443"}, []string{"has no owner here", "two families"}},
		{[]string{"--address", "10.0.0.1", "tcp", "10.0.0.1:443"}, []string{"--address"}},
		{[]string{"--state", "open", "tcp", "10.0.0.1:443"}, []string{`"open" is not a connection state`}},
	} {
		code, out, errs := weir(t, "", append([]string{"explain", "--config", config}, tt.args...)...)
		if code != exitUsage || out != "" {
			t.Errorf("%q: exit %d, %q", tt.args, code, out)
		}
		for _, want := range tt.want {
			if !strings.Contains(errs, want) {
				t.Errorf("%q: no %q in %s", tt.args, want, errs)
			}
		}
	}
}

func TestExplainReadsLines(t *testing.T) {
	config := podConfig(t, "")
	lines := `{"packet": "tcp 10.0.0.1:443", "uid": 1000}` + "\n\n" + `{"packet": "udp 192.0.2.1:53", "in": "eth0", "from": "192.0.2.7:4000"}` + "\n"
	code, out, errs := weir(t, lines, "explain", "--config", config, "--json", "-")
	var kinds []string
	for line := range strings.Lines(out) {
		var e explain.AnswerJSON
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		kinds = append(kinds, e.Fate.Kind)
	}
	if code != exitDone || strings.Join(kinds, " ") != "redirected untouched" {
		t.Errorf("exit %d, %s: %s", code, kinds, errs)
	}
	code, out, errs = weir(t, strings.Join([]string{
		`{"packet": "tcp 1.2.3.4:5"}`, `{}`, `{"packet": "tcp 1.2.3.4:5", "colour": 1}`, `{"packet": "tcp 1.2.3.4:5"} {}`, `{"packet": "tcp 1.2.3.4:5", "uid": -1}`,
		`{"packet": 7}`, `[]`, strings.Repeat(" ", explain.MaxRequestLine+1)}, "\n"), "explain", "--config", config, "-")
	for _, want := range []string{"input:2: \"\" is not a packet", "input:3: json: unknown field", "input:4: something follows the packet",
		"input:5: uid: unexpected number -1 (want a number of 0-4294967295)", "input:6: packet: unexpected number (want a text)",
		"input:7: unexpected array (want an object", "input:8: the line has more than 65536 bytes"} {
		if !strings.Contains(errs, want) {
			t.Errorf("no %q in\n%s", want, errs)
		}
	}
	if code != exitUsage || out != "" || strings.Count(errs, "\n") != 7 {
		t.Errorf("exit %d: %s%s", code, out, errs)
	}
	if code, out, errs := weir(t, "", "explain", "--config", config, "-"); code != exitDone || out != "" {
		t.Errorf("of no packet there is nothing to say: exit %d: %s%s", code, out, errs)
	}
	for _, packet := range []string{"-", "--all"} {
		code, _, errs := weir(t, "", "explain", "--config", config, "--uid", "5", "--mark", "1", packet)
		if code != exitUsage || !strings.Contains(errs, "--uid is about one packet") || !strings.Contains(errs, "--mark is about one packet") {
			t.Errorf("%s takes no flags of one packet: exit %d: %s", packet, code, errs)
		}
	}
}
