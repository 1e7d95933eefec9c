package mesh

import (
	"strings"

	"github.com/weir-mesh/weir/internal/parse"
	"github.com/weir-mesh/weir/modes"
)

// Linkerd's annotations, those of the namespace too where it is known.
const (
	linkerdInject       = "linkerd.io/inject"
	linkerdVersion      = "linkerd.io/proxy-version" // written by the injector
	linkerdSkipInbound  = "config.linkerd.io/skip-inbound-ports"
	linkerdSkipOutbound = "config.linkerd.io/skip-outbound-ports"
	linkerdSkipSubnets  = "config.linkerd.io/skip-subnets"
	linkerdUID          = "config.linkerd.io/proxy-uid"
	linkerdGID          = "config.linkerd.io/proxy-gid"

	linkerdControlPlane = "linkerd.io/control-plane-component" // a label
)

var linkerdNames = map[modes.Ref]string{
	{Key: "inbound.excludePorts"}:   linkerdSkipInbound,
	{Key: "outbound.excludePorts"}:  linkerdSkipOutbound,
	{Key: "inbound.excludeSources"}: linkerdSkipSubnets,
	{Key: "proxy.uids"}:             linkerdUID,
	{Key: "proxy.gids"}:             linkerdGID,
}

func linkerdWants(p Pod) string {
	_, injected := p.Annotations[linkerdVersion]
	switch {
	case p.container("linkerd-init") != nil:
		return "its container linkerd-init does it"
	case p.container("linkerd-proxy") != nil:
		return ""
	case !injected:
		return notOfIt
	case p.Spec != nil:
		return "it has no container linkerd-proxy"
	case strings.TrimSpace(p.Annotations[linkerdInject]) == "disabled":
		return "annotation " + linkerdInject + " is disabled"
	}
	return ""
}

func readLinkerd(r *reading) {
	r.namespaceToo = true
	c := &r.Config
	if ports, set := r.list(linkerdSkipInbound); set {
		c.Inbound.ExcludePorts = with(c.Inbound.ExcludePorts, portWords(ports)...)
	}
	r.ports(linkerdSkipOutbound, &c.Outbound.ExcludePorts)
	r.words(linkerdSkipSubnets, &c.Inbound.ExcludeSources)
	if id, set := r.number(linkerdUID, "user id", 0, maxID); set {
		c.Proxy.UIDs = []string{id}
	}
	if id, set := r.number(linkerdGID, "group id", 0, maxID); set {
		c.Proxy.GIDs = []string{id}
	}
	if r.pod.label(linkerdControlPlane) != "" {
		c.Outbound.ExcludePorts = with(c.Outbound.ExcludePorts, "443", "6443") // the API server's
	}
	if len(c.Inbound.IncludePorts) > 0 && !isAll(c.Inbound.IncludePorts) {
		c.Inbound.IncludePorts = parse.WithoutPorts(c.Inbound.IncludePorts, c.Inbound.ExcludePorts) // exclusion wins
		c.Inbound.ExcludePorts = nil
	}
}

// maxID is the highest user or group id: the next one means none to the kernel.
const maxID = 1<<32 - 2
