// SPDX-License-Identifier: Apache-2.0

package mesh

import (
	"encoding/json"
	"strconv"

	"github.com/weir-mesh/weir/internal/mesh/options"
	"github.com/weir-mesh/weir/modes"
)

// Consul's annotations, and Nomad's argument.
const (
	consulInjected  = "consul.hashicorp.com/connect-inject-status" // written by the injector
	consulInjected2 = "consul.hashicorp.com/mesh-inject-status"
	consulStatus    = "consul.hashicorp.com/transparent-proxy-status" // there where the proxy is to be transparent
	consulConfig    = "consul.hashicorp.com/redirect-traffic-config"  // a whole configuration of Consul's
	consulDualStack = "consul.hashicorp.com/dual-stack"
	nomadConfig     = "CONSUL_IPTABLES_CONFIG"
)

func consulWants(p Pod) string {
	injected := p.Annotations[consulInjected] != "" || p.Annotations[consulInjected2] != ""
	switch {
	case p.Consul != "" || !injected:
		return notOfIt
	case p.Annotations[consulStatus] == "":
		return "annotation " + consulStatus + " is missing: its proxy is not transparent"
	}
	return ""
}

func nomadWants(p Pod) string {
	if p.Consul == "" {
		return notOfIt
	}
	return ""
}

func readNomad(r *reading) { r.readConsulDocument(nomadConfig, r.pod.Consul) }

func readConsul(r *reading) {
	text, set := r.value(consulConfig)
	if !set {
		r.problem(consulConfig, "is missing (want the configuration that the injector writes with the CNI plugin enabled)")
		return
	}
	r.readConsulDocument(consulConfig, text)
}

// consulDocument is the part of the document that changes the capture.
type consulDocument struct {
	ConsulDNSIP          string
	ConsulDNSPort        int
	ProxyUserID          string
	ProxyInboundPort     int
	ProxyOutboundPort    int
	ExcludeInboundPorts  []string
	ExcludeOutboundPorts []string
	ExcludeOutboundCIDRs []string
	ExcludeUIDs          []string
}

func (r *reading) readConsulDocument(name, text string) {
	r.document = name
	var d consulDocument
	if err := json.Unmarshal([]byte(text), &d); err != nil {
		r.problem(name, "%v (want the JSON that Consul writes)", err)
		return
	}
	o := options.Consul{
		UID:            d.ProxyUserID,
		ExcludeInbound: options.PortWords(d.ExcludeInboundPorts), ExcludeOutbound: options.PortWords(d.ExcludeOutboundPorts),
		ExcludeCIDRs: d.ExcludeOutboundCIDRs, ExcludeUIDs: d.ExcludeUIDs,
		DNSAddress: d.ConsulDNSIP, DNSPort: d.ConsulDNSPort,
	}
	if d.ProxyUserID == "" {
		r.problem(name, "ProxyUserID is missing")
	}
	if d.ProxyInboundPort == 0 {
		r.problem(name, "ProxyInboundPort is missing")
	} else {
		o.InboundPort = modes.PortWord(strconv.Itoa(d.ProxyInboundPort))
	}
	if d.ProxyOutboundPort != 0 {
		o.OutboundPort = modes.PortWord(strconv.Itoa(d.ProxyOutboundPort))
	}
	if both, set := r.yes(consulDualStack); set {
		o.DualStack = &both
	}
	var wrong []options.Problem
	r.Config, wrong = o.Over(r.Config)
	r.wrong(wrong, nil, map[options.Option]string{options.DNSAddress: "ConsulDNSIP", options.DNSPort: "ConsulDNSPort"})
}
