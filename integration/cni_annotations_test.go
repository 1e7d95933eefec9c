//go:build linux

package integration

import (
	"fmt"
	"net/netip"
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
		{name: "sidecar.istio.io/interceptionMode", value: "NONE", fates: left},
		{name: "inject.istio.io/templates", value: "gateway", fates: left},
		{name: traffic + "includeInboundPorts", value: "", fates: map[sentProbe]string{inV4: "pod:8080", inV6: "pod:8080", outV4: "pod:15001"}},
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
	for _, row := range istioRows() {
		t.Run(strings.ReplaceAll(row.name, "/", "_")+"="+strings.ReplaceAll(row.value, "/", "_"), func(t *testing.T) {
			of := c.with(func(o *cli) { o.namespace = &namespace{TB: t, file: c.file} })
			defer of.run("remove", "--netns", pod.Path())
			annotations := map[string]string{"sidecar.istio.io/status": istioStatus, row.name: row.value}
			for k, v := range row.with {
				annotations[k] = v
			}
			call := pluginCall{netns: pod.Path(), annotations: annotations, dns: []string{"10.96.0.10"}}
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
