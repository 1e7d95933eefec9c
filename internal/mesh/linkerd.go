// SPDX-License-Identifier: Apache-2.0

package mesh

import (
	"strings"

	"github.com/weir-mesh/weir/internal/mesh/options"
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

func linkerdNames() map[modes.Ref]string {
	return map[modes.Ref]string{
		{Key: "inbound.excludePorts"}:   linkerdSkipInbound,
		{Key: "outbound.excludePorts"}:  linkerdSkipOutbound,
		{Key: "inbound.excludeSources"}: linkerdSkipSubnets,
		{Key: "proxy.uids"}:             linkerdUID,
		{Key: "proxy.gids"}:             linkerdGID,
	}
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

// readLinkerd reads annotations of which an empty one counts as missing, in the pod and in the namespace. Those of
// inbound ports are added: the proxy's own stay skipped, as Linkerd's injector has it.
func readLinkerd(r *reading) {
	r.namespaceToo = true
	var o options.Linkerd
	if ports, set := r.list(linkerdSkipInbound); set {
		o.SkipInbound = with(r.Config.Inbound.ExcludePorts, options.PortWords(ports)...)
	}
	r.ports(linkerdSkipOutbound, &o.SkipOutbound)
	r.words(linkerdSkipSubnets, &o.SkipSubnets)
	if id, set := r.number(linkerdUID, "user id", 0, maxID); set {
		o.UID = id
	}
	if id, set := r.number(linkerdGID, "group id", 0, maxID); set {
		o.GID = id
	}
	if r.pod.label(linkerdControlPlane) != "" {
		if o.SkipOutbound == nil {
			o.SkipOutbound = r.Config.Outbound.ExcludePorts
		}
		o.SkipOutbound = with(o.SkipOutbound, "443", "6443") // the API server's
	}
	r.Config = o.Over(r.Config)
}

// maxID is the highest user or group id: the next one means none to the kernel.
const maxID = 1<<32 - 2
