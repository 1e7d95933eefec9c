package mesh

import (
	"encoding/json"
	"net"
	"net/netip"
	"strconv"

	"github.com/weir-mesh/weir/internal/term"
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
	if both, set := r.yes(consulDualStack); set && !both {
		r.Config.IPv6 = "disabled"
	}
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
	c := &r.Config
	if d.ProxyUserID == "" {
		r.problem(name, "ProxyUserID is missing")
	} else {
		c.Proxy.UIDs = []string{d.ProxyUserID}
	}
	if d.ProxyInboundPort == 0 {
		r.problem(name, "ProxyInboundPort is missing")
	} else {
		c.Inbound.Port = modes.PortWord(strconv.Itoa(d.ProxyInboundPort))
	}
	if d.ProxyOutboundPort != 0 {
		c.Outbound.Port = modes.PortWord(strconv.Itoa(d.ProxyOutboundPort))
	}
	c.Inbound.ExcludePorts = append(c.Inbound.ExcludePorts, portWords(d.ExcludeInboundPorts)...)
	c.Outbound.ExcludePorts = append(c.Outbound.ExcludePorts, portWords(d.ExcludeOutboundPorts)...)
	c.Outbound.ExcludeCIDRs = append(c.Outbound.ExcludeCIDRs, d.ExcludeOutboundCIDRs...)
	c.Outbound.ExcludeUIDs = append(c.Outbound.ExcludeUIDs, d.ExcludeUIDs...)
	r.consulQueries(name, d)
}

// consulQueries sends queries to Consul's DNS service: those to any address to the service's address, or with
// a port those to the address (the loopback address where there is none) to that port of it.
func (r *reading) consulQueries(name string, d consulDocument) {
	if d.ConsulDNSIP == "" && d.ConsulDNSPort == 0 {
		return
	}
	address := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	if both, _ := parseBool(r.pod.Annotations[consulDualStack]); both {
		address = netip.IPv6Loopback()
	}
	if d.ConsulDNSIP != "" {
		var err error
		if address, err = netip.ParseAddr(d.ConsulDNSIP); err != nil {
			r.problem(name, "ConsulDNSIP: %q is not an address", term.Shorten(d.ConsulDNSIP))
			return
		}
	}
	dns := &r.Config.DNS
	if d.ConsulDNSPort == 0 {
		dns.Capture, dns.To = "all", []string{address.String()}
		return
	}
	dns.Capture, dns.Servers = "servers", []string{address.String()}
	dns.To = []string{net.JoinHostPort(address.String(), strconv.Itoa(d.ConsulDNSPort))}
}
