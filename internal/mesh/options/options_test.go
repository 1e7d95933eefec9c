// SPDX-License-Identifier: Apache-2.0

package options

import (
	"reflect"
	"strings"
	"testing"

	"github.com/weir-mesh/weir/modes"
)

// TestDefaults: what a mesh's injector tells means a configuration.
func TestDefaults(t *testing.T) {
	for name, c := range map[string]modes.Config{"istio": IstioDefaults(), "linkerd": LinkerdDefaults(), "kuma": KumaDefaults(), "consul": ConsulDefaults()} {
		if err := modes.Check(c); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestTogether: what options mean only together.
func TestTogether(t *testing.T) {
	kuma := func(o Kuma) modes.Config { c, _ := o.Over(KumaDefaults()); return c }
	istio := func(o Istio) modes.Config { c, _ := o.Over(IstioDefaults()); return c }
	yes := true
	consul, _ := Consul{DNSPort: 8600, DualStack: &yes}.Over(ConsulDefaults())
	tcpQueries := modes.Excluded{UIDs: []string{"0-5677", "5679-4294967294"}, Protocol: "tcp", Ports: modes.Ports(53)}
	captured := KumaDNS{Enabled: true}
	for _, tt := range []struct {
		why       string
		got, want any
	}{
		{"Linkerd: what is included and skipped is skipped", Linkerd{IncludeInbound: modes.Ports(80, 443), SkipInbound: modes.Ports(443)}.Over(LinkerdRules()).Inbound.IncludePorts, modes.Ports(80)},
		{"Linkerd: and if that is all, nothing is captured", Linkerd{IncludeInbound: modes.Ports(443), SkipInbound: modes.Ports(443)}.Over(LinkerdRules()).Inbound.Via, "none"},
		{"Kuma: excluded ports count only where none are included", kuma(Kuma{Inbound: KumaFlow{Include: modes.Ports(80), Exclude: modes.Ports(22)}}).Inbound.ExcludePorts, []modes.PortWord(nil)},
		{"Kuma: with ports included, no destination is captured whole", kuma(Kuma{Outbound: KumaFlow{Include: modes.Ports(80)}}).Outbound.IncludeCIDRs, []string{}},
		{"Kuma: without outbound, the proxy's own calls are left", kuma(Kuma{Outbound: KumaFlow{Off: true}}).Proxy.OwnCalls, "left"},
		{"Kuma: queries over TCP are the proxy's alone", kuma(Kuma{DNS: captured}).Outbound.Exclude, []modes.Excluded{tcpQueries}},
		{"Kuma: and everyone's to leave where the proxy has a name", kuma(Kuma{UID: "kuma-dp", DNS: captured}).Outbound.Exclude, []modes.Excluded{{Protocol: "tcp", Ports: modes.Ports(53)}}},
		{"Kuma: port 53 excludes TCP where UDP to it is a query", kuma(Kuma{DNS: captured, TCPQueries: true, Outbound: KumaFlow{Exclude: modes.Ports(53, 22)}}).Outbound.Exclude,
			[]modes.Excluded{{Protocol: "tcp", Ports: modes.Ports(53, 22)}}},
		{"Kuma: all queries are some of those that are captured", kuma(Kuma{DNS: KumaDNS{All: true}}).DNS.Capture, ""},
		{"Istio: no inbound port with TPROXY still has marks", istio(Istio{TProxy: true, IncludeInbound: []modes.PortWord{}}).Inbound.Via, "marks"},
		{"Istio: excluded ports count only where all are included", istio(Istio{IncludeInbound: modes.Ports(80)}).Inbound.ExcludePorts, []modes.PortWord(nil)},
		{"Istio: exclusion wins over inclusion", istio(Istio{IncludeCIDRs: []string{}, IncludeOutbound: modes.Ports(80), ExcludeOutbound: modes.Ports(80)}).Outbound.Via, "none"},
		{"Consul: a port alone is the loopback address's", consul.DNS.To, []string{"[::1]:8600"}},
	} {
		if !reflect.DeepEqual(tt.got, tt.want) {
			t.Errorf("%s: got %v, want %v", tt.why, tt.got, tt.want)
		}
	}
}

// TestKumaDocuments: a later document replaces what it says, and only that.
func TestKumaDocuments(t *testing.T) {
	o, err := ParseKuma(
		[]byte("kumaDPUser: 5678\nredirect: {dns: {enabled: true, port: 1}, inbound: {excludePorts: '22,23', port: 2}}\n"),
		[]byte(`{"redirect": {"dns": {"port": 3}, "inbound": {"excludePorts": [24]}, "vnet": {"networks": ["docker0:172.17.0.0/16"]}}}`))
	want := Kuma{UID: "5678", DNS: KumaDNS{Enabled: true, Port: "3"}, Inbound: KumaFlow{Port: "2", Exclude: modes.Ports(24)}, Networks: []string{"docker0:172.17.0.0/16"}}
	if err != nil || !reflect.DeepEqual(o, want) {
		t.Errorf("got %+v, %v\nwant %+v", o, err, want)
	}
	for _, document := range []string{"redirect: [", "redirect: {inbound: {port: {}}}", "[]"} {
		if o, err := ParseKuma([]byte(document)); err == nil || !strings.Contains(err.Error(), "want a configuration of Kuma's transparent proxy") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %+v, %v", document, o, err)
		}
	}
}
