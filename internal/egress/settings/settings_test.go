// SPDX-License-Identifier: Apache-2.0

package settings

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

const whole = `version: 1
mode: egress
watch: {names: [dns, sni], by: uid, size: 4096}
serve:
  port: 15101
  dns: {port: 15153, upstream: [10.96.0.10, "[2001:db8::53]:5353"], ttl: 5}
  virtual: {ipv4: 240.241.0.0/24, ipv6: "2001:2:0:1::/64", state: /run/x.json}
  ca: /etc/ca.pem
  interfaces: {reroute: [tap0]}
  hosts:
  - {name: OSS.example., originate: {80: 443, 8080: 8443}}
  - {name: "*.bucket.example"}
metrics: {listen: "127.0.0.1:15020", names: otel}
`

func TestParse(t *testing.T) {
	s, err := Parse("egress.yaml", []byte(whole))
	if err != nil {
		t.Fatal(err)
	}
	v := s.Serve
	if s.Watch == nil || s.Watch.Watch.Size != "4096" || s.Listen != "127.0.0.1:15020" || s.Names != "otel" || v.Port != 15101 || v.DNSPort != 15153 || v.TTL != 5*time.Second ||
		v.Upstream[0] != netip.MustParseAddrPort("10.96.0.10:53") || v.Upstream[1] != netip.MustParseAddrPort("[2001:db8::53]:5353") || v.Reroute[0] != "tap0" ||
		v.Hosts[0].Name != "oss.example" || v.Hosts[0].Originate[8080] != 8443 || !v.HasWildcard() || len(v.Names()) != 1 {
		t.Errorf("%+v, %+v", s, v)
	}
	s, err = Parse("egress.yaml", []byte("version: 1\nmode: egress\nserve: {dns: {upstream: auto}, hosts: [{name: a.example}]}"))
	if err == nil {
		t.Error("a word in place of a list")
	}
	s, err = Parse("egress.yaml", []byte("version: 1\nmode: egress\nserve: {dns: {upstream: [auto]}, hosts: [{name: a.example}]}"))
	if err != nil || s.Watch != nil || s.Serve.Port != Port || s.Serve.TTL != TTL || s.Serve.Upstream != nil || s.Serve.Pool.IPv4.String() != IPv4 || s.Serve.Pool.IPv6.String() != IPv6 || s.Serve.State != State || s.Names != "istio" {
		t.Errorf("the defaults: %+v, %v", s, err)
	}
}

// TestProblems are all said at once, each with its key.
func TestProblems(t *testing.T) {
	_, err := Parse("egress.yaml", []byte(`version: 2
mode: sidecar
watch: {by: nobody, size: 1}
serve:
  port: 15053
  dns: {upstream: [x]}
  virtual: {ipv4: "2001:2::/48", ipv6: "2001:2::1/48"}
  hosts: [{name: "bad name"}, {name: a.example}, {name: A.example}, {name: "*.b.example", originate: {80: 443}}, {name: 10.0.0.1}, {name: c.example, originate: {0: 443}}]
metrics: {names: statsd}
`))
	if err == nil {
		t.Fatal("no problem")
	}
	for _, want := range []string{"version: is 2", "mode: is \"sidecar\"", "watch.by", "watch.size", "serve.dns.port: is serve.port too", `serve.dns.upstream: "x"`, "serve.virtual.ipv4", "serve.virtual.ipv6",
		"serve.hosts[0].name", "serve.hosts[2].name: \"a.example\" is there twice", "serve.hosts[3].originate", "serve.hosts[4].name", "serve.hosts[5].originate", "metrics.names"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in:\n%v", want, err)
		}
	}
	for text, want := range map[string]string{
		"version: 1\nmode: egress\nservre: {}\n": "servre", "version: 1\nmode: egress\n": "there is nothing to do", "version: 1\nmode: egress\nserve: {}\n": "serve.hosts: is missing",
		"version: 1\nmode: egress\nserve: {conntrack: off, hosts: [{name: a.example}]}":                                 `serve.conntrack: "off" (want used or none)`,
		"version: 1\nmode: egress\nserve: {conntrack: none, interfaces: {reroute: [eth1]}, hosts: [{name: a.example}]}": "none excludes serve.interfaces.reroute",
		"version: 1\nmode: egress\nserve: {quic: dropped, hosts: [{name: a.example}]}":                                  `serve.quic: "dropped" (want refused or passed)`,
		"version: 1\nmode: egress\nserve: {hosts: [{name: a.example, orginate: {80: 443}}]}":                            "orginate", "version: 1\nmode: egress\nwatch: {by: pod}": "--node", "[": "egress.yaml",
	} {
		if _, err := Parse("egress.yaml", []byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("version: 1\nmode: egress\nserve: {hosts: [{name: a.example, originate: {80: 443}}]}\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := Parse("f", text)
		if err != nil || s.Serve == nil {
			return
		}
		for _, h := range s.Serve.Hosts {
			if strings.ContainsAny(h.Name, "\x00\n\r\t /\\\"") || h.Name == "" {
				t.Errorf("a host %q", h.Name)
			}
		}
	})
}
