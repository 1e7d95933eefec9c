// SPDX-License-Identifier: Apache-2.0

package mesh

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/weir-mesh/weir/internal/mesh/options"
	"github.com/weir-mesh/weir/internal/term"
	"github.com/weir-mesh/weir/modes"
)

// Istio's annotations.
const (
	istioStatus      = "sidecar.istio.io/status" // written by the injector
	istioInject      = "sidecar.istio.io/inject"
	istioTemplates   = "inject.istio.io/templates"
	istioMode        = "sidecar.istio.io/interceptionMode"
	istioStatusPort  = "status.sidecar.istio.io/port"
	istioProxyConfig = "proxy.istio.io/config"

	istioIncludeInbound  = "traffic.sidecar.istio.io/includeInboundPorts"
	istioExcludeInbound  = "traffic.sidecar.istio.io/excludeInboundPorts"
	istioIncludeOutbound = "traffic.sidecar.istio.io/includeOutboundPorts"
	istioExcludeOutbound = "traffic.sidecar.istio.io/excludeOutboundPorts"
	istioIncludeCIDRs    = "traffic.sidecar.istio.io/includeOutboundIPRanges"
	istioExcludeCIDRs    = "traffic.sidecar.istio.io/excludeOutboundIPRanges"
	istioExcludeLinks    = "traffic.sidecar.istio.io/excludeInterfaces"
	istioReroute         = "istio.io/reroute-virtual-interfaces"
	istioKubevirt        = "traffic.sidecar.istio.io/kubevirtInterfaces" // istioReroute's former name
)

// istioOwnPorts are the proxy's, for the kubelet's probes and for metrics.
var istioOwnPorts = []modes.PortWord{"15020", "15021", "15090"}

func istioNames() map[modes.Ref]string {
	return map[modes.Ref]string{
		{Key: "inbound.includePorts"}:  istioIncludeInbound,
		{Key: "inbound.excludePorts"}:  istioExcludeInbound,
		{Key: "outbound.includePorts"}: istioIncludeOutbound,
		{Key: "outbound.excludePorts"}: istioExcludeOutbound,
		{Key: "outbound.includeCIDRs"}: istioIncludeCIDRs,
		{Key: "outbound.excludeCIDRs"}: istioExcludeCIDRs,
		{Key: "interfaces.exclude"}:    istioExcludeLinks,
		{Key: "interfaces.reroute"}:    istioReroute,
	}
}

// istioContainers are the containers that the injector says it added.
type istioContainers struct {
	InitContainers []string `json:"initContainers"`
	Containers     []string `json:"containers"`
}

// istioWants looks at what Istio's own plugin looks at, in its order. What only the pod's containers tell
// is told by the injector's status too, as far as it goes.
func istioWants(p Pod) string {
	status, injected := p.Annotations[istioStatus]
	var added istioContainers
	if len(status) <= maxValue {
		_ = json.Unmarshal([]byte(status), &added) // what it does not tell is not known
	}
	has := func(name string) bool {
		return p.container(name) != nil || p.Spec == nil && (slices.Contains(added.Containers, name) || slices.Contains(added.InitContainers, name))
	}
	proxy := p.container("istio-proxy")
	known := p.Spec != nil || len(added.Containers) > 0
	switch {
	case !injected && proxy == nil:
		return notOfIt
	case has("istio-init"):
		return "its container istio-init does it"
	case proxy != nil && istrue(proxy.Env["DISABLE_ENVOY"]):
		return "DISABLE_ENVOY is true"
	case known && !has("istio-proxy"):
		return "it has no container istio-proxy"
	case proxy != nil && len(proxy.Args) > 1 && proxy.Args[0] == "proxy" && proxy.Args[1] != "sidecar":
		return "its proxy is a " + term.Shorten(proxy.Args[1])
	case proxy == nil && isGateway(p.Annotations[istioTemplates]):
		return "annotation " + istioTemplates + " makes it a gateway, or one without a proxy"
	case istioOptedOut(p):
		return istioInject + " is false"
	case !injected:
		return "annotation " + istioStatus + " is missing: it was not injected"
	case strings.TrimSpace(p.Annotations[istioMode]) == "NONE":
		return "annotation " + istioMode + " is NONE"
	}
	return ""
}

// isGateway reports whether templates of the injector make a pod without a sidecar.
func isGateway(templates string) bool {
	words := options.Split(templates)
	return !slices.Contains(words, "sidecar") &&
		slices.ContainsFunc(words, func(w string) bool { return w == "gateway" || w == "grpc-agent" || w == "grpc-simple" })
}

func istioOptedOut(p Pod) bool {
	word := p.Annotations[istioInject]
	if label := p.label(istioInject); label != "" {
		word = label
	}
	yes, known := parseBool(word)
	return known && !yes
}

func istrue(word string) bool {
	yes, known := parseBool(word)
	return known && yes
}

func readIstio(r *reading) {
	r.istioProxy()
	var o options.Istio
	switch mode, _ := r.value(istioMode); mode {
	case "", "REDIRECT":
	case "TPROXY":
		o.TProxy = true
	default:
		r.problem(istioMode, "%q is not a mode (want REDIRECT, TPROXY or NONE)", term.Shorten(mode))
	}
	r.ports(istioIncludeInbound, &o.IncludeInbound)
	o.ExcludeInbound = r.istioExcludedInbound()
	r.words(istioIncludeCIDRs, &o.IncludeCIDRs)
	r.words(istioExcludeCIDRs, &o.ExcludeCIDRs)
	r.ports(istioIncludeOutbound, &o.IncludeOutbound)
	r.ports(istioExcludeOutbound, &o.ExcludeOutbound)
	r.words(istioExcludeLinks, &o.ExcludeInterfaces)
	reroute, set := r.list(istioReroute)
	if !set {
		reroute, set = r.list(istioKubevirt)
	}
	if set {
		o.Reroute = reroute
	}
	var wrong []options.Problem
	r.Config, wrong = o.Over(r.Config)
	for i := range wrong {
		wrong[i].Text += " (leave " + istioIncludeCIDRs + " empty for that)"
	}
	r.wrong(wrong, map[options.Option]string{options.ExcludeCIDRs: istioExcludeCIDRs}, nil)
}

// istioExcludedInbound has the proxy's own ports too, as Istio's injector has it.
func (r *reading) istioExcludedInbound() []modes.PortWord {
	excluded := r.Config.Inbound.ExcludePorts
	r.ports(istioExcludeInbound, &excluded)
	excluded = with(excluded, istioOwnPorts...)
	if port, set := r.number(istioStatusPort, "port", 1, 65535); set {
		excluded = with(excluded, modes.PortWord(port))
	}
	return excluded
}

// istioProxy reads what the proxy's own container says, and as far as it is not known, the annotation from
// which the injector makes its environment.
func (r *reading) istioProxy() {
	env := map[string]string{}
	if proxy := r.pod.container("istio-proxy"); proxy != nil {
		env = proxy.Env
		r.FirstAddressDecides = r.Config.IPv6 == "" && !istrue(env["ISTIO_DUAL_STACK"])
		if id := proxy.RunAsUser; id != nil && *id > 0 {
			r.Config.Proxy.UIDs = modes.IDs(uint32(*id))
		}
		if id := proxy.RunAsGroup; id != nil && *id > 0 {
			r.Config.Proxy.GIDs = modes.IDs(uint32(*id))
		}
	} else if document, set := r.value(istioProxyConfig); set {
		env = proxyMetadata(document)
	}
	if word, set := env["ISTIO_META_DNS_CAPTURE"]; set {
		r.Config.DNS.Capture = "none"
		if istrue(word) {
			r.Config.DNS.Capture = "all"
		}
	}
	if word, set := env["INVALID_DROP"]; set {
		r.Config.DropInvalid = options.OnOff(istrue(word))
	}
}
