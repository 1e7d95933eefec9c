// SPDX-License-Identifier: Apache-2.0

//go:build linux

package integration

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weir-mesh/weir/internal/lab"
	"github.com/weir-mesh/weir/internal/scratch"
)

// status is what Istio's injector leaves on a pod.
const istioStatus = `{"initContainers":["istio-validation"],"containers":["istio-proxy"],"revision":"default"}`

// sentProbe is a connection or datagram in words: who sends it, how, and where to.
//
//	app tcp 203.0.113.9:80     pod user 1000, from eth0
//	proxy tcp ...              pod user and group 1337
//	peer tcp 198.18.0.2:8080   from outside
type sentProbe string

func (p sentProbe) probe(t testing.TB, sport uint16) scratch.Probe {
	t.Helper()
	var who, proto, to string
	if _, err := fmt.Sscan(string(p), &who, &proto, &to); err != nil {
		t.Fatalf("%s: %v", p, err)
	}
	dst, err := netip.ParseAddrPort(to)
	if err != nil {
		t.Fatalf("%s: %v", p, err)
	}
	out := scratch.Probe{Namespace: "pod", Proto: proto, UID: appID, GID: appID, Dst: dst.Addr(), DPort: dst.Port(), SPort: sport}
	switch who {
	case "app":
	case "proxy":
		out.UID, out.GID = proxyID, proxyID
	case "peer":
		out.Namespace = "peer"
	default:
		if _, err := fmt.Sscanf(who, "uid%d", &out.UID); err != nil {
			t.Fatalf("%s: %v", p, err)
		}
		out.GID = out.UID
	}
	return out
}

const probeWait = 700 * time.Millisecond

// fate is where a probe lands, such as pod:15001.
func (p sentProbe) fate(t testing.TB, pod *lab.Pod, sport uint16) string {
	t.Helper()
	probe := p.probe(t, sport)
	from := pod.Namespace
	if probe.Namespace == "peer" {
		from = pod.Peer
	}
	f, err := probe.Send(t.Context(), from, probeWait)
	if err != nil {
		t.Fatalf("%s: %v", p, err)
	}
	return f.Land
}

// annotationRow is an annotation, and the packet that shows what it does.
type annotationRow struct {
	name, value string
	with        map[string]string // besides
	fates       map[sentProbe]string

	of    map[string]string // the pod of a mesh; nil: of Istio's
	entry map[string]any    // of the plugin's entry
	nomad string            // the argument that Nomad gives
}

const (
	outV4, outV6 = "app tcp 203.0.113.9:80", "app tcp [2001:db8:99::9]:80"
	inV4, inV6   = "peer tcp 198.18.0.2:8080", "peer tcp [2001:db8:18::2]:8080"
)

func istioRows() []annotationRow {
	const traffic = "traffic.sidecar.istio.io/"
	captured := map[sentProbe]string{outV4: "pod:15001", outV6: "pod:15001", inV4: "pod:15006", inV6: "pod:15006"}
	left := map[sentProbe]string{outV4: "peer:7000", outV6: "peer:7000", inV4: "pod:8080", inV6: "pod:8080"}
	return []annotationRow{
		{name: "sidecar.istio.io/status", value: istioStatus, fates: captured},
		{name: "sidecar.istio.io/status", value: `{}`, fates: captured},
		{name: "sidecar.istio.io/status", value: `{"initContainers":["istio-init"],"containers":["istio-proxy"]}`, fates: left},
		{name: "sidecar.istio.io/status", value: `{"containers":["other"]}`, fates: left},
		{name: "sidecar.istio.io/inject", value: "false", fates: left},
		{name: "sidecar.istio.io/interceptionMode", value: "REDIRECT", fates: captured},
		{name: "sidecar.istio.io/interceptionMode", value: "TPROXY", fates: captured},
		{name: "sidecar.istio.io/interceptionMode", value: "NONE", fates: left},
		{name: "inject.istio.io/templates", value: "gateway", fates: left},
		{name: traffic + "includeInboundPorts", value: "", fates: map[sentProbe]string{inV4: "pod:8080", inV6: "pod:8080", outV4: "pod:15001"}},
		{name: traffic + "includeInboundPorts", value: "", with: map[string]string{"sidecar.istio.io/interceptionMode": "TPROXY"},
			fates: map[sentProbe]string{inV4: "pod:8080", inV6: "pod:8080", outV4: "pod:15001", outV6: "pod:15001"}},
		{name: traffic + "includeInboundPorts", value: "9080", fates: map[sentProbe]string{inV4: "pod:8080", "peer tcp 198.18.0.2:9080": "pod:15006"}},
		{name: traffic + "excludeInboundPorts", value: "8080", fates: map[sentProbe]string{inV4: "pod:8080", inV6: "pod:8080", "peer tcp 198.18.0.2:9080": "pod:15006", "peer tcp 198.18.0.2:15020": "pod:15020"}},
		{name: traffic + "excludeInboundPorts", value: "8000-8100", fates: map[sentProbe]string{inV4: "pod:8080", "peer tcp 198.18.0.2:9080": "pod:15006"}},
		{name: "status.sidecar.istio.io/port", value: "8080", fates: map[sentProbe]string{inV4: "pod:8080", "peer tcp 198.18.0.2:9080": "pod:15006"}},
		{name: traffic + "includeOutboundPorts", value: "80", with: map[string]string{traffic + "includeOutboundIPRanges": ""},
			fates: map[sentProbe]string{outV4: "pod:15001", outV6: "pod:15001", "app tcp 203.0.113.9:81": "peer:7000"}},
		{name: traffic + "excludeOutboundPorts", value: "80, 443", fates: map[sentProbe]string{outV4: "peer:7000", outV6: "peer:7000", "app tcp 203.0.113.9:81": "pod:15001"}},
		{name: traffic + "excludeOutboundPorts", value: "443", with: map[string]string{traffic + "includeOutboundPorts": "80,443"},
			fates: map[sentProbe]string{outV4: "pod:15001", "app tcp 203.0.113.9:443": "peer:7000"}},
		{name: traffic + "includeOutboundIPRanges", value: "203.0.113.0/24", fates: map[sentProbe]string{outV4: "pod:15001", outV6: "peer:7000", "app tcp 203.0.114.9:80": "peer:7000"}},
		{name: traffic + "includeOutboundIPRanges", value: "", fates: map[sentProbe]string{outV4: "peer:7000", inV4: "pod:15006"}},
		{name: traffic + "excludeOutboundIPRanges", value: "203.0.113.9, 2001:db8:99::/64", fates: map[sentProbe]string{outV4: "peer:7000", outV6: "peer:7000", "app tcp 203.0.113.8:80": "pod:15001"}},
		{name: traffic + "excludeInterfaces", value: "eth0", fates: map[sentProbe]string{inV4: "pod:8080", "peer tcp 198.18.1.2:8080": "pod:15006"}},
		{name: "istio.io/reroute-virtual-interfaces", value: "eth1", fates: map[sentProbe]string{"peer tcp 198.18.1.2:8080": "pod:15001", inV4: "pod:15006"}},
		{name: traffic + "kubevirtInterfaces", value: "eth1", fates: map[sentProbe]string{"peer tcp 198.18.1.2:8080": "pod:15001", inV4: "pod:15006"}},
		{name: "istio.io/reroute-virtual-interfaces", value: "eth1", with: map[string]string{traffic + "kubevirtInterfaces": "eth0"},
			fates: map[sentProbe]string{inV4: "pod:15006", "peer tcp 198.18.1.2:8080": "pod:15001"}},
		{name: "proxy.istio.io/config", value: "proxyMetadata:\n  ISTIO_META_DNS_CAPTURE: \"true\"\n", fates: map[sentProbe]string{"app udp 203.0.113.9:53": "pod:15053", "app tcp 203.0.113.9:53": "pod:15053"}},
		{name: "weir.dev/config", value: "version: 1\nmode: none\n", fates: left},
		{name: "weir.dev/config", value: "{version: 1, mode: sidecar, proxy: {uids: [1337]}, outbound: {excludePorts: [80]}}", fates: map[sentProbe]string{outV4: "peer:7000", inV4: "pod:15006"}},
	}
}

func linkerdRows() []annotationRow {
	// the lab's proxy listens where Istio's does
	entry := map[string]any{"meshes": map[string]any{"linkerd": map[string]any{
		"proxy": map[string]any{"uids": []int{proxyID}}, "inbound": map[string]any{"port": 15006}, "outbound": map[string]any{"port": 15001}}}}
	of := map[string]string{"linkerd.io/proxy-version": "stable-2.14.10"}
	const config = "config.linkerd.io/"
	captured := map[sentProbe]string{outV4: "pod:15001", outV6: "pod:15001", inV4: "pod:15006", inV6: "pod:15006",
		"proxy tcp 203.0.113.9:80": "peer:7000", "proxy tcp 198.18.0.2:8080": "pod:8080", "app tcp 198.18.0.2:8080": "pod:8080", "peer tcp 198.18.0.2:15008": "pod:15006"}
	rows := []annotationRow{
		{name: "linkerd.io/proxy-version", value: "edge-24.1.1", fates: captured},
		{name: "linkerd.io/inject", value: "disabled", fates: map[sentProbe]string{outV4: "peer:7000", inV4: "pod:8080"}},
		{name: config + "skip-inbound-ports", value: "8080,25", fates: map[sentProbe]string{inV4: "pod:8080", inV6: "pod:8080", "peer tcp 198.18.0.2:9080": "pod:15006"}},
		{name: config + "skip-outbound-ports", value: "80-90", fates: map[sentProbe]string{outV4: "peer:7000", outV6: "peer:7000", "app tcp 203.0.113.9:443": "pod:15001"}},
		{name: config + "skip-subnets", value: "198.18.0.0/24,2001:db8:18::/64", fates: map[sentProbe]string{inV4: "pod:8080", inV6: "pod:8080", "peer tcp 198.18.1.2:8080": "pod:15006"}},
		{name: config + "proxy-uid", value: "1000", fates: map[sentProbe]string{outV4: "peer:7000", "proxy tcp 203.0.113.9:80": "pod:15001"}},
		{name: config + "proxy-gid", value: "1000", fates: map[sentProbe]string{outV4: "peer:7000", "proxy tcp 203.0.113.9:80": "peer:7000"}},
	}
	for i := range rows {
		rows[i].of, rows[i].entry = of, entry
	}
	return rows
}

func kumaRows() []annotationRow {
	of := map[string]string{"kuma.io/sidecar-injected": "true", "kuma.io/transparent-proxying": "enabled", "kuma.io/sidecar-uid": "1337"}
	const traffic, document = "traffic.kuma.io/", "traffic.kuma.io/transparent-proxy-config"
	captured := map[sentProbe]string{outV4: "pod:15001", outV6: "pod:15001", inV4: "pod:15006", inV6: "pod:15006", "proxy tcp 203.0.113.9:80": "peer:7000",
		"proxy tcp 198.18.0.2:8080": "pod:15006", "app udp 10.96.0.10:53": "peer:7000", "peer tcp 198.18.0.2:15008": "pod:15006"}
	rows := []annotationRow{
		{name: "kuma.io/sidecar-injected", value: "yes", fates: captured},
		{name: "kuma.io/transparent-proxying", value: "disabled", fates: map[sentProbe]string{outV4: "peer:7000", inV4: "pod:8080"}},
		{name: "kuma.io/sidecar-uid", value: "1000", fates: map[sentProbe]string{outV4: "peer:7000", "proxy tcp 203.0.113.9:80": "pod:15001"}},
		{name: "kuma.io/gateway", value: "enabled", fates: map[sentProbe]string{inV4: "pod:8080", outV4: "pod:15001"}},
		{name: "kuma.io/transparent-proxying-ip-family-mode", value: "ipv4", fates: map[sentProbe]string{outV4: "pod:15001", outV6: "peer:7000", inV6: "pod:8080"}},
		{name: traffic + "exclude-inbound-ports", value: "8080", fates: map[sentProbe]string{inV4: "pod:8080", "peer tcp 198.18.0.2:9080": "pod:15006"}},
		{name: traffic + "exclude-outbound-ports", value: "80", fates: map[sentProbe]string{outV4: "peer:7000", "app tcp 203.0.113.9:443": "pod:15001"}},
		{name: traffic + "exclude-inbound-ips", value: "198.18.0.1,2001:db8:18::1", fates: map[sentProbe]string{inV4: "pod:8080", inV6: "pod:8080", "peer tcp 198.18.1.2:8080": "pod:15006"}},
		{name: traffic + "exclude-outbound-ips", value: "203.0.113.0/24", fates: map[sentProbe]string{outV4: "peer:7000", outV6: "pod:15001"}},
		{name: traffic + "exclude-outbound-ports-for-uids", value: "tcp:80:1000;udp:53:5-7", fates: map[sentProbe]string{outV4: "peer:7000", "app tcp 203.0.113.9:443": "pod:15001", "uid1001 tcp 203.0.113.9:80": "pod:15001"}},
		{name: traffic + "drop-invalid-packets", value: "true", fates: map[sentProbe]string{outV4: "pod:15001", inV4: "pod:15006"}},
		{name: document, value: "kumaDPUser: \"1337\"\nredirect: {inbound: {port: 15006, excludePorts: \"8080\"}, outbound: {port: 15001, excludePorts: [80]}}\n",
			fates: map[sentProbe]string{inV4: "pod:8080", outV4: "peer:7000", "app tcp 203.0.113.9:443": "pod:15001", "peer tcp 198.18.0.2:9080": "pod:15006"}},
		{name: document, value: "redirect: {dns: {enabled: true}}", fates: map[sentProbe]string{"app udp 10.96.0.10:53": "pod:15053", "app udp 203.0.113.9:53": "peer:7000", "app tcp 10.96.0.10:53": "peer:7000", "proxy udp 10.96.0.10:53": "peer:7000"}},
		{name: document, value: "redirect: {dns: {enabled: true, captureAll: true}}", fates: map[sentProbe]string{"app udp 203.0.113.9:53": "pod:15053"}},
		{name: document, value: "redirect: {inbound: {enabled: false}}", fates: map[sentProbe]string{inV4: "pod:8080", outV4: "pod:15001"}},
		{name: document, value: "redirect: {outbound: {enabled: false}}", fates: map[sentProbe]string{outV4: "peer:7000", inV4: "pod:15006"}},
		{name: document, value: "redirect: {outbound: {includePorts: [80]}}", fates: map[sentProbe]string{outV4: "pod:15001", "app tcp 203.0.113.9:443": "peer:7000"}},
		{name: document, value: "redirect: {vnet: {networks: [\"eth1:10.4.0.0/16\"]}}", fates: map[sentProbe]string{"peer tcp 198.18.1.2:8080": "pod:15001", inV4: "pod:15006"}},
	}
	for i := range rows {
		rows[i].of = of
	}
	return rows
}

func consulRows() []annotationRow {
	of := map[string]string{"consul.hashicorp.com/connect-inject-status": "injected", "consul.hashicorp.com/transparent-proxy-status": "enabled",
		"consul.hashicorp.com/redirect-traffic-config": consulConfig("")}
	const document = "consul.hashicorp.com/redirect-traffic-config"
	captured := map[sentProbe]string{outV4: "pod:15001", outV6: "pod:15001", inV4: "pod:15006", "proxy tcp 203.0.113.9:80": "peer:7000",
		"proxy tcp 198.18.0.2:8080": "pod:8080", "app tcp 198.18.0.2:8080": "pod:15001", "app tcp 127.0.0.1:8080": "pod:8080"}
	var rows []annotationRow
	for _, tt := range []struct {
		more  string
		fates map[sentProbe]string
	}{
		{"", captured},
		{`,"ExcludeInboundPorts":["8080"]`, map[sentProbe]string{inV4: "pod:8080", "peer tcp 198.18.0.2:9080": "pod:15006"}},
		{`,"ExcludeOutboundPorts":["80"]`, map[sentProbe]string{outV4: "peer:7000", "app tcp 203.0.113.9:443": "pod:15001"}},
		{`,"ExcludeOutboundCIDRs":["203.0.113.0/24"]`, map[sentProbe]string{outV4: "peer:7000", "app tcp 203.0.114.9:80": "pod:15001"}},
		{`,"ExcludeUIDs":["1000"]`, map[sentProbe]string{outV4: "peer:7000", "uid1001 tcp 203.0.113.9:80": "pod:15001"}},
		{`,"ConsulDNSIP":"198.18.0.2"`, map[sentProbe]string{"app udp 10.96.0.10:53": "pod:53"}},
		{`,"ConsulDNSPort":15053`, map[sentProbe]string{"app udp 127.0.0.1:53": "pod:15053", "app udp 10.96.0.10:53": "peer:7000"}},
	} {
		rows = append(rows, annotationRow{name: document, value: consulConfig(tt.more), of: of, fates: tt.fates},
			annotationRow{name: "CONSUL_IPTABLES_CONFIG", value: tt.more, nomad: consulConfig(tt.more), fates: tt.fates})
	}
	return append(rows,
		annotationRow{name: "consul.hashicorp.com/transparent-proxy-status", value: "", of: of, fates: map[sentProbe]string{outV4: "peer:7000"}},
		annotationRow{name: "consul.hashicorp.com/dual-stack", value: "false", of: of, fates: map[sentProbe]string{outV4: "pod:15001", outV6: "peer:7000"}},
		annotationRow{name: "consul.hashicorp.com/dual-stack", value: "true", of: of, fates: map[sentProbe]string{outV4: "pod:15001", outV6: "pod:15001"}})
}

func consulConfig(more string) string {
	return `{"ProxyUserID":"1337","ProxyInboundPort":15006,"ProxyOutboundPort":15001` + more + `}`
}

// TestAnnotations: each annotation of each mesh does to real packets what its mesh says.
func TestAnnotations(t *testing.T) {
	needUsers(t)
	c := newCLI(t)
	pod, err := lab.NewPod(t.Context(), scratch.Identity{UID: proxyID, GID: proxyID})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pod.Close() })
	sport := uint16(21000)
	for _, row := range slices.Concat(istioRows(), linkerdRows(), kumaRows(), consulRows()) {
		t.Run(strings.ReplaceAll(row.name, "/", "_")+"="+strings.ReplaceAll(row.value, "/", "_"), func(t *testing.T) {
			of := c.with(func(o *cli) { o.namespace = &namespace{TB: t, file: c.file} })
			defer of.run("remove", "--netns", pod.Path())
			annotations := map[string]string{}
			if row.of == nil {
				row.of = sidecarPod
			}
			maps.Copy(annotations, row.of)
			maps.Copy(annotations, row.with)
			call := pluginCall{netns: pod.Path(), annotations: annotations, dns: []string{"10.96.0.10"}, entry: row.entry}
			if row.nomad != "" {
				call.annotations, call.args = nil, "IgnoreUnknown=1;CONSUL_IPTABLES_CONFIG="+row.nomad
			} else {
				annotations[row.name] = row.value
			}
			of.plugin("ADD", call).succeeded(t)
			of.plugin("CHECK", call).succeeded(t)
			for probe, want := range row.fates {
				sport++
				if got := probe.fate(t, pod, sport); got != want {
					t.Errorf("%s lands at %s, want %s", probe, got, want)
				}
			}
		})
	}
}
