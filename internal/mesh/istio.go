package mesh

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/weir-mesh/weir/internal/parse"
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

const istioProxyID = 1337

// istioOwnPorts are the proxy's, for the kubelet's probes and for metrics.
var istioOwnPorts = []modes.PortWord{"15020", "15021", "15090"}

var istioNames = map[modes.Ref]string{
	{Key: "inbound.includePorts"}:  istioIncludeInbound,
	{Key: "inbound.excludePorts"}:  istioExcludeInbound,
	{Key: "outbound.includePorts"}: istioIncludeOutbound,
	{Key: "outbound.excludePorts"}: istioExcludeOutbound,
	{Key: "outbound.includeCIDRs"}: istioIncludeCIDRs,
	{Key: "outbound.excludeCIDRs"}: istioExcludeCIDRs,
	{Key: "interfaces.exclude"}:    istioExcludeLinks,
	{Key: "interfaces.reroute"}:    istioReroute,
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
	words := split(templates)
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
	c := &r.Config
	r.istioProxy()
	switch mode, _ := r.value(istioMode); mode {
	case "", "REDIRECT":
	case "TPROXY":
		c.Inbound.Via = "tproxy"
	default:
		r.problem(istioMode, "%q is not a mode (want REDIRECT, TPROXY or NONE)", term.Shorten(mode))
	}
	r.istioInbound()
	r.istioOutbound()
	r.words(istioExcludeLinks, &c.Interfaces.Exclude)
	reroute, set := r.list(istioReroute)
	if !set {
		reroute, set = r.list(istioKubevirt)
	}
	if set {
		c.Interfaces.Reroute = nil
		for _, name := range reroute {
			c.Interfaces.Reroute = append(c.Interfaces.Reroute, modes.Rerouted{Name: name, Exclusions: "ignored"}) // as in the reference
		}
	}
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
		r.Config.DNS.Capture = pick(istrue(word), "all", "none")
	}
	if word, set := env["INVALID_DROP"]; set {
		r.Config.DropInvalid = pick(istrue(word), "enabled", "disabled")
	}
}

func pick(yes bool, word, otherwise string) string {
	if yes {
		return word
	}
	return otherwise
}

func (r *reading) istioInbound() {
	in := &r.Config.Inbound
	include, set := r.list(istioIncludeInbound)
	switch {
	case set && len(include) == 0:
		in.Via, in.IncludePorts = "none", nil
		if mode, _ := r.value(istioMode); mode == "TPROXY" {
			in.Via = "marks" // which the reference sets whatever the ports
		}
	case set:
		in.IncludePorts = portWords(include)
	}
	r.ports(istioExcludeInbound, &in.ExcludePorts)
	in.ExcludePorts = with(in.ExcludePorts, istioOwnPorts...)
	if port, set := r.number(istioStatusPort, "port", 1, 65535); set {
		in.ExcludePorts = with(in.ExcludePorts, modes.PortWord(port))
	}
	if len(in.IncludePorts) > 0 && !isAll(in.IncludePorts) || in.Via == "none" || in.Via == "marks" {
		in.ExcludePorts = nil // which count only where all are included
	}
}

func isAll(words []modes.PortWord) bool { return len(words) == 1 && parse.IsAll(string(words[0])) }

func (r *reading) istioOutbound() {
	out := &r.Config.Outbound
	r.words(istioIncludeCIDRs, &out.IncludeCIDRs)
	r.words(istioExcludeCIDRs, &out.ExcludeCIDRs)
	if slices.Contains(out.ExcludeCIDRs, "*") {
		r.problem(istioExcludeCIDRs, "%q excludes everything (leave %s empty for that)", "*", istioIncludeCIDRs)
		out.ExcludeCIDRs = nil
	}
	r.ports(istioIncludeOutbound, &out.IncludePorts)
	r.ports(istioExcludeOutbound, &out.ExcludePorts)
	out.IncludePorts = parse.WithoutPorts(out.IncludePorts, out.ExcludePorts) // exclusion wins
	if out.IncludeCIDRs != nil && len(out.IncludeCIDRs)+len(out.IncludePorts) == 0 {
		out.Via, out.IncludeCIDRs = "none", nil
	}
}
