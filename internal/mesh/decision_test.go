// SPDX-License-Identifier: Apache-2.0

package mesh

import (
	"maps"
	"strings"
	"testing"

	"github.com/weir-mesh/weir/modes"
)

const injected = `{"initContainers":["istio-validation"],"containers":["istio-proxy"]}`

func istioPod(annotations map[string]string) Pod {
	p := Pod{Namespace: "shop", Name: "cart", Annotations: map[string]string{istioStatus: injected}}
	maps.Copy(p.Annotations, annotations)
	return p
}

// TestBadValues: a value that means nothing fails the pod, with the annotation, the place and what was wanted.
func TestBadValues(t *testing.T) {
	for _, tt := range []struct {
		annotation, value string
		want              string
	}{
		{istioMode, "TPROXi", `"TPROXi" is not a mode (want REDIRECT, TPROXY or NONE)`},
		{istioIncludeInbound, "80,http/2", `entry 2: "http/2" is not a port (want a number of 1-65535, a range such as 8000-8100, or a service such as https)`},
		{istioExcludeInbound, "70000", `"70000" is not a port (want`},
		{istioExcludeInbound, "90-80", `"90-80" is a reversed range (want 80-90)`},
		{istioStatusPort, "status", `"status" is not a port (want a number of 1-65535)`},
		{istioIncludeOutbound, "0x50", `"0x50" is not a port (want`},
		{istioExcludeOutbound, "80,,-1", `entry 2: "-1" is not a port (want`},
		{istioIncludeCIDRs, "10.0.0.0/8,10.0.0.0/33", `entry 2: "10.0.0.0/33" is not an address or prefix`},
		{istioExcludeCIDRs, "*", `"*" excludes everything (leave ` + istioIncludeCIDRs + ` empty for that)`},
		{istioExcludeCIDRs, "example.com", `"example.com" is not an address or prefix`},
		{istioExcludeLinks, "a-name-of-more-than-15-bytes", `"a-name-of-more-than-15-bytes" is 28 bytes long (an interface name has at most 15)`},
		{istioReroute, "eth0 eth1", `"eth0 eth1"`},
		{ConfigAnnotation, "mode: sidecar\nproxy: {uids: [1-]}\n", `2:16: proxy.uids: "1-" is not`},
		{ConfigAnnotation, "mode: sidecar\nprox: {uids: [1]}\n", `2:1: prox: unknown key (did you mean proxy?)`},
		{ConfigAnnotation, "mode: ambient-host", `mode: "ambient-host" is for the machine's own network namespace (want sidecar, ambient-pod or none)`},
		{ConfigAnnotation, "", `holds no configuration`},
		{ConfigAnnotation, strings.Repeat("#", maxValue+1), `has 262145 bytes (want at most 262144)`},
	} {
		d, err := Rules{}.Decide(istioPod(map[string]string{tt.annotation: tt.value}))
		if want := "annotation " + tt.annotation + ": " + tt.want; err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %.40q: %v (%v), want %s", tt.annotation, tt.value, err, d.Outcome, want)
		}
	}
}

// TestEveryProblemIsNamed, not only the first.
func TestEveryProblemIsNamed(t *testing.T) {
	_, err := Rules{}.Decide(istioPod(map[string]string{istioMode: "x", istioExcludeInbound: "y/", istioExcludeCIDRs: "z", istioStatusPort: "0"}))
	for _, annotation := range []string{istioMode, istioExcludeInbound, istioExcludeCIDRs, istioStatusPort} {
		if err == nil || !strings.Contains(err.Error(), annotation) {
			t.Errorf("%s is missing in: %v", annotation, err)
		}
	}
}

// TestNodeDefaults: a problem that no annotation makes is the node's.
func TestNodeDefaults(t *testing.T) {
	r := Rules{Defaults: map[string]modes.Config{Istio: {Outbound: modes.Outbound{ExcludeCIDRs: []string{"x"}}}}}
	_, err := r.Decide(istioPod(nil))
	if want := `the node's defaults for istio: outbound.excludeCIDRs: "x" is not an address or prefix`; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%v, want %s", err, want)
	}
	r.Defaults[Istio] = modes.Config{IPv6: "disabled", Proxy: modes.Proxy{UIDs: []string{"5"}}}
	d, err := r.Decide(istioPod(nil))
	if err != nil || d.Config.IPv6 != "disabled" || d.Config.Proxy.UIDs[0] != "5" || d.Config.Proxy.GIDs[0] != "1337" {
		t.Errorf("%+v, %v", d.Config, err)
	}
}

// TestBadMeshValues is TestBadValues for the other meshes.
func TestBadMeshValues(t *testing.T) {
	linkerd := map[string]string{linkerdVersion: "stable-2.14"}
	kuma := map[string]string{kumaInjected: "true", kumaOn: "enabled"}
	consul := map[string]string{consulInjected: "injected", consulStatus: "enabled"}
	for _, tt := range []struct {
		of          map[string]string
		name, value string
		want        string
	}{
		{linkerd, linkerdSkipInbound, "25,smtp/", `entry 2: "smtp/" is not a port (want`},
		{linkerd, linkerdSkipOutbound, "70000", `"70000" is not a port (want`},
		{linkerd, linkerdSkipSubnets, "10.0.0.0/8,x", `entry 2: "x" is not an address or prefix`},
		{linkerd, linkerdUID, "linkerd", `"linkerd" is not a user id (want a number of 0-4294967294)`},
		{linkerd, linkerdGID, "-1", `"-1" is not a group id (want a number of 0-4294967294)`},
		{kuma, kumaConfig, "redirect: [", `(want a configuration of Kuma's transparent proxy)`},
		{kuma, kumaConfig, "redirect: {inbound: {excludePorts: [70000]}}", `inbound.excludePorts: "70000" is not a port`},
		{kuma, kumaConfig, "redirect: {vnet: {networks: [docker0]}}", `redirect.vnet.networks: entry 1: "docker0" is not interface:CIDR`},
		{kuma, kumaConfig, "ipFamilyMode: ipv6", `ipFamilyMode: "ipv6" is not a family (want dualstack or ipv4)`},
		{kuma, kumaConfig, "redirect: {outbound: {excludePortsForUIDs: ['tcp:80:1:2']}}", `redirect.outbound.excludePortsForUIDs: entry 1: "tcp:80:1:2" is not [protocol:][ports:]uids`},
		{kuma, kumaSkipForUIDs, "tcp:80:1000;sctp:80:1", `entry 2: "sctp:80:1" is not [protocol:][ports:]uids (want such as tcp:80,8000-8100:1000-2000, with one user or one range)`},
		{kuma, kumaSkipForUIDs, "tcp:http/:1000", `"http/" is not a port`},
		{kuma, kumaSkipInbound, "a b", `"a b" is not a port`},
		{kuma, kumaSkipOutboundIPs, "10.0.0.0/33", `"10.0.0.0/33" is not an address or prefix`},
		{kuma, kumaFamily, "v4", `"v4" is not a family`},
		{kuma, kumaDropInvalid, "maybe", `"maybe" is neither true nor false`},
		{kuma, kumaUID, "kuma-dp", `"kuma-dp" is not a user id`},
		{consul, consulDualStack, "true", ""}, // the configuration is missing
		{consul, consulConfig, "{", `(want the JSON that Consul writes)`},
		{consul, consulConfig, `{"ProxyUserID":"5995"}`, `ProxyInboundPort is missing`},
		{consul, consulConfig, `{"ProxyInboundPort":20000}`, `ProxyUserID is missing`},
		{consul, consulConfig, `{"ProxyUserID":"5995","ProxyInboundPort":20000,"ExcludeUIDs":["9-1"]}`, `outbound.excludeUIDs: "9-1" is a reversed range`},
		{consul, consulConfig, `{"ProxyUserID":"5995","ProxyInboundPort":20000,"ConsulDNSIP":"dns"}`, `ConsulDNSIP: "dns" is not an address`},
	} {
		pod := Pod{Annotations: maps.Clone(tt.of)}
		pod.Annotations[tt.name] = tt.value
		d, err := Rules{}.Decide(pod)
		want := "annotation " + tt.name + ": " + tt.want
		if tt.want == "" {
			want = "annotation " + consulConfig + ": is missing"
		}
		if err == nil || !strings.Contains(err.Error(), strings.TrimPrefix(want, "annotation "+tt.name+": ")) || !strings.Contains(err.Error(), "annotation ") {
			t.Errorf("%s: %.60q: %v (%v), want %s", tt.name, tt.value, err, d.Outcome, want)
		}
	}
	_, err := Rules{}.Decide(Pod{Consul: `{"ProxyUserID":"101","ProxyInboundPort":70000}`})
	if want := `argument CONSUL_IPTABLES_CONFIG: inbound.port: "70000" is not a port`; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%v, want %s", err, want)
	}
	both := istioPod(linkerd)
	if _, err := (Rules{}).Decide(both); err == nil || !strings.Contains(err.Error(), "want one mesh") {
		t.Errorf("two meshes: %v", err)
	}
	if d, err := (Rules{Off: []string{Linkerd}}).Decide(both); err != nil || d.By != Istio {
		t.Errorf("one of them is off: %v, %v", d.By, err)
	}
}

func int64s(n int64) *int64 { return &n }

// TestWhoIsLeftAlone: by what is known of the pod's containers, labels and namespace.
func TestWhoIsLeftAlone(t *testing.T) {
	proxy := func(c Container) *Spec {
		c.Name = "istio-proxy"
		return &Spec{Containers: []Container{{Name: "app"}, c}}
	}
	sidecar := []string{"proxy", "sidecar", "--domain"}
	for _, tt := range []struct {
		why  string
		pod  Pod
		want Outcome
		say  string
	}{
		{"a sidecar", Pod{Annotations: istioPod(nil).Annotations, Spec: proxy(Container{Args: sidecar})}, Captured, ""},
		{"a native sidecar is an init container", Pod{Annotations: istioPod(nil).Annotations, Spec: proxy(Container{Init: true, Args: sidecar})}, Captured, ""},
		{"no proxy", Pod{Annotations: istioPod(nil).Annotations, Spec: &Spec{}}, Left, "no container istio-proxy"},
		{"a gateway", Pod{Annotations: istioPod(nil).Annotations, Spec: proxy(Container{Args: []string{"proxy", "router"}})}, Left, "router"},
		{"no Envoy", Pod{Annotations: istioPod(nil).Annotations, Spec: proxy(Container{Env: map[string]string{"DISABLE_ENVOY": "true"}})}, Left, "DISABLE_ENVOY"},
		{"the init container does it", Pod{Annotations: istioPod(nil).Annotations, Spec: &Spec{Containers: []Container{{Name: "istio-init", Init: true}, {Name: "istio-proxy"}}}}, Left, "istio-init"},
		{"a proxy, but not injected", Pod{Spec: proxy(Container{Args: sidecar})}, Left, istioStatus},
		{"the label wins over the annotation", Pod{Annotations: istioPod(map[string]string{istioInject: "true"}).Annotations, Spec: &Spec{Labels: map[string]string{istioInject: "false"}, Containers: []Container{{Name: "istio-proxy"}}}}, Left, istioInject},
		{"an excluded namespace", Pod{Namespace: "kube-system", Annotations: istioPod(nil).Annotations}, Left, "kube-system is excluded"},
		{"nothing is asked", Pod{Annotations: map[string]string{"a": "b"}}, Left, "no annotation asks"},
		{"a pod of the ambient mesh", Pod{Spec: &Spec{Labels: map[string]string{DataplaneMode: "ambient"}}}, Ambient, DataplaneMode},
		{"a namespace of the ambient mesh", Pod{Namespace: "shop", Spec: &Spec{NamespaceLabels: map[string]string{DataplaneMode: "ambient"}}}, Ambient, "namespace shop"},
		{"but not this pod", Pod{Spec: &Spec{Labels: map[string]string{DataplaneMode: "none"}, NamespaceLabels: map[string]string{DataplaneMode: "ambient"}}}, Left, ""},
		{"never with a sidecar", Pod{Annotations: istioPod(map[string]string{istioInject: "false"}).Annotations, Spec: &Spec{Labels: map[string]string{DataplaneMode: "ambient"}, Containers: []Container{{Name: "istio-proxy"}}}}, Left, istioInject},
		{"enrolled on disk", Pod{Enrolled: "it is enrolled"}, Ambient, "it is enrolled"},
		{"enrolled, but excluded", Pod{Namespace: "kube-system", Enrolled: "it is enrolled"}, Left, "excluded"},
		{"a host network pod of the ambient mesh", Pod{Spec: &Spec{HostNetwork: true, Labels: map[string]string{DataplaneMode: "ambient"}}}, Left, ""},
	} {
		d, err := Rules{ExcludeNamespaces: []string{"kube-system"}}.Decide(tt.pod)
		if err != nil || d.Outcome != tt.want || !strings.Contains(d.Reason, tt.say) {
			t.Errorf("%s: %s, %q, %v; want %s, %q", tt.why, d.Outcome, d.Reason, err, tt.want, tt.say)
		}
	}
}

// TestProxyContainer: what the proxy's own container says counts.
func TestProxyContainer(t *testing.T) {
	pod := istioPod(nil)
	c := Container{Name: "istio-proxy", RunAsUser: int64s(0), RunAsGroup: int64s(2000),
		Env: map[string]string{"ISTIO_META_DNS_CAPTURE": "true", "INVALID_DROP": "1"}}
	pod.Spec = &Spec{Containers: []Container{c}}
	d, err := Rules{}.Decide(pod)
	if err != nil {
		t.Fatal(err)
	}
	if got := d.Config; got.Proxy.UIDs[0] != "1337" || got.Proxy.GIDs[0] != "2000" || got.DNS.Capture != "all" || got.DropInvalid != "enabled" || !d.FirstAddressDecides {
		t.Errorf("%+v, %v", got, d.FirstAddressDecides)
	}
	c.Env["ISTIO_DUAL_STACK"] = "true"
	if d, err := (Rules{}).Decide(pod); err != nil || d.FirstAddressDecides {
		t.Errorf("dual stack: %v, %v", d.FirstAddressDecides, err)
	}
}

func TestProxyMetadata(t *testing.T) {
	for document, want := range map[string]string{
		"proxyMetadata:\n  ISTIO_META_DNS_CAPTURE: \"true\"\n  X: y\n": "true",
		`{"proxyMetadata":{"X":"y","ISTIO_META_DNS_CAPTURE":"false"}}`: "false",
		"proxyMetadata: {ISTIO_META_DNS_CAPTURE: 'True', X: y}":        "True",
		"# ISTIO_META_DNS_CAPTURE: \"true\"":                           "",
		"concurrency: 2":                                               "",
		"ISTIO_META_DNS_CAPTURE":                                       "",
	} {
		if got := proxyMetadata(document)["ISTIO_META_DNS_CAPTURE"]; got != want {
			t.Errorf("%q: %q, want %q", document, got, want)
		}
	}
}

func FuzzDecide(f *testing.F) {
	f.Add(istioExcludeInbound, "80,443")
	f.Add(istioStatus, injected)
	f.Add(ConfigAnnotation, "mode: none")
	f.Add(linkerdVersion, "x")
	f.Add(kumaConfig, "redirect: {dns: {enabled: true}, vnet: {networks: 'docker0:172.17.0.0/16'}}")
	f.Add(consulConfig, `{"ProxyUserID":"5995","ProxyInboundPort":20000,"ConsulDNSPort":8600}`)
	f.Add(istioProxyConfig, "proxyMetadata: {ISTIO_META_DNS_CAPTURE: 'true'}")
	f.Fuzz(func(t *testing.T, annotation, value string) {
		for _, of := range []map[string]string{{istioStatus: injected}, {linkerdVersion: "x"}, {kumaInjected: "true", kumaOn: "true"}, {consulInjected: "x", consulStatus: "x"}} {
			of[annotation] = value
			d, err := Rules{}.Decide(Pod{Annotations: of})
			if err == nil && d.Outcome == Captured {
				if err := modes.Check(d.Config); err != nil {
					t.Errorf("a configuration that means nothing: %v", err)
				}
			}
		}
	})
}

// TestMarkedContainer: a pod names the container whose sockets are to be marked where that means something, and no cgroup
// of the node's.
func TestMarkedContainer(t *testing.T) {
	const untracked = "{mode: sidecar, conntrack: none, proxy: {mark: 0x53d}, inbound: {via: tproxy}, outbound: {via: tproxy}}"
	for _, tt := range []struct {
		why, config, container string
		spec                   *Spec
		problem                string
	}{
		{"a proxy that cannot mark", untracked, "proxy", nil, ""},
		{"which the pod has", untracked, "proxy", &Spec{Containers: []Container{{Name: "proxy"}}}, ""},
		{"which the pod has not", untracked, "proxy", &Spec{Containers: []Container{{Name: "app"}}}, `annotation weir.dev/proxy-container: the pod has no container "proxy"`},
		{"with connection tracking", "{mode: sidecar, proxy: {uids: [1]}}", "proxy", nil, "annotation weir.dev/proxy-container: goes with annotation weir.dev/config, of conntrack: none and proxy.mark"},
		{"without a configuration", "", "proxy", nil, "annotation weir.dev/proxy-container: goes with annotation weir.dev/config"},
		{"a cgroup of the node's", strings.Replace(untracked, "mark: 0x53d", "mark: 0x53d, cgroups: [/], assignMark: enabled", 1), "", nil, "annotation weir.dev/config: proxy.cgroups: is for hosts: in a pod, annotation weir.dev/proxy-container names"},
	} {
		p := Pod{Annotations: map[string]string{}, Spec: tt.spec}
		if tt.config != "" {
			p.Annotations[ConfigAnnotation] = tt.config
		}
		if tt.container != "" {
			p.Annotations[ProxyContainerAnnotation] = tt.container
		}
		d, err := Rules{}.Decide(p)
		switch {
		case tt.problem == "" && (err != nil || d.ProxyContainer != tt.container || d.Outcome != Captured):
			t.Errorf("%s: %+v, %v", tt.why, d, err)
		case tt.problem != "" && (err == nil || !strings.Contains(err.Error(), tt.problem)):
			t.Errorf("%s: %v, want %s", tt.why, err, tt.problem)
		}
	}
}
