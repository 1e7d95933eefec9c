// SPDX-License-Identifier: Apache-2.0

//go:build linux

package istio

import (
	"errors"
	"strings"
	"testing"

	"github.com/weir-mesh/weir/internal/problems"
	"github.com/weir-mesh/weir/modes"
)

// parsed are arguments in an environment of those variables alone.
func parsed(t *testing.T, line string, variables map[string]string) *Arguments {
	t.Helper()
	a, err := Parse(strings.Fields(line), func(name string) (string, bool) {
		value, set := variables[name]
		return value, set
	})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// TestProblemsNameFlags: a problem names the flag or the variable that it is about, and no key of a
// configuration, of which the reader has none.
func TestProblemsNameFlags(t *testing.T) {
	for _, tt := range []struct {
		line      string
		variables map[string]string
		want      string
	}{
		{"-u x,", nil, ""}, // a name may be known in the pod
		{"-u 99999999999", nil, "--proxy-uid: \"99999999999\""},
		{"-g 99999999999", nil, "--proxy-gid: \"99999999999\""},
		{"-z x", nil, "--inbound-capture-port: \"x\""},
		{"-e x-", nil, "--inbound-tunnel-port: \"x-\""},
		{"-p x", nil, "--envoy-port: \"x\""},
		{"-b -1", nil, "--istio-inbound-ports: \"-1\""},
		{"-b * -d *", nil, `--istio-local-exclude-ports: "*" would leave everything alone (want an empty --istio-inbound-ports for that)`},
		{"-i 10.0.0.0/99", nil, "--istio-service-cidr: \"10.0.0.0/99\""},
		{"-x 10.0.0.0/99", nil, "--istio-service-exclude-cidr: \"10.0.0.0/99\""},
		{"-x *", nil, "--istio-service-exclude-cidr: \"*\""},
		{"-q -1 -i *", nil, "--istio-outbound-ports: \"-1\""},
		{"-o -1", nil, "--istio-local-outbound-ports-exclude: \"-1\""},
		{"-c averyveryverylonginterface", nil, "--istio-exclude-interfaces: \"averyveryverylonginterface\""},
		{"-k averyveryverylonginterface", nil, "--kube-virt-interfaces: \"averyveryverylonginterface\""},
		{"-m TPROXY -b * -t x", nil, "--istio-inbound-tproxy-mark: \"x\""},
		{"-m TPROXY -b * -r x", nil, "--istio-inbound-tproxy-route-table: \"x\""},
		{"-m TPROXY -b *", map[string]string{"WEIR_MARK_MASK": "0xff"}, "--istio-inbound-tproxy-mark: \"1337\" has bits outside its mask, 0xff of WEIR_MARK_MASK"},
		{"", map[string]string{"WEIR_RESET_OPEN": "perhaps"}, "WEIR_RESET_OPEN: \"perhaps\" is not true or false"},
		{"", map[string]string{"WEIR_MARK_MASK": "x"}, "WEIR_MARK_MASK: \"x\""},
		{"-i *", map[string]string{"ISTIO_OUTBOUND_OWNER_GROUPS": "99999999999"}, "ISTIO_OUTBOUND_OWNER_GROUPS: \"99999999999\""},
		{"-i *", map[string]string{"ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE": "99999999999"}, "ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE: \"99999999999\""},
		{"-i *", map[string]string{"ISTIO_OUTBOUND_IPV4_LOOPBACK_CIDR": "10.0.0.0/8"}, "ISTIO_OUTBOUND_IPV4_LOOPBACK_CIDR: \"10.0.0.0/8\""},
	} {
		_, err := parsed(t, tt.line, tt.variables).Config(modes.Environment{})
		found := problems.List(err)
		switch {
		case tt.want == "" && err == nil:
			continue
		case tt.want == "" || len(found) == 0 || !strings.HasPrefix(found[0].Error(), tt.want):
			t.Errorf("%s %v:\ngot  %v\nwant %s", tt.line, tt.variables, err, tt.want)
		}
		for _, k := range modes.Keys() {
			if section, _, nested := strings.Cut(k.Path, "."); nested && err != nil && strings.Contains(err.Error(), k.Path) {
				t.Errorf("%s %v: the message names a key of section %s: %v", tt.line, tt.variables, section, err)
			}
		}
	}
}

func TestParseReportsAnUnknownFlag(t *testing.T) {
	a, err := Parse([]string{"--log_as_json", "--envoy-prt=1"}, func(string) (string, bool) { return "", false })
	var wrong ArgumentError
	if !errors.As(err, &wrong) || !strings.HasSuffix(err.Error(), "(did you mean --envoy-port?)") || !a.LogJSON {
		t.Errorf("got %v, %+v", err, a)
	}
}

// TestIncludedPrefixes: the reference takes an IPv4-mapped prefix of loopback
// addresses for one of IPv6 that no packet has, and for a loopback prefix.
func TestIncludedPrefixes(t *testing.T) {
	for list, want := range map[string]string{
		"10.0.0.0/8,::ffff:10.0.0.0/104":                  "10.0.0.0/8",
		"::ffff:127.0.0.0/104":                            "::1/128",
		"::ffff:127.0.0.0/104,::ffff:127.0.0.1/128,::/64": "::1/128,::/64",
		"x,*": "x,*",
		",":   "",
	} {
		if got := strings.Join(includedPrefixes(list), ","); got != want {
			t.Errorf("%s: got %s, want %s", list, got, want)
		}
	}
}
