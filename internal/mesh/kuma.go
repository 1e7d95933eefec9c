// SPDX-License-Identifier: Apache-2.0

package mesh

import (
	"slices"
	"strings"

	"github.com/weir-mesh/weir/internal/mesh/options"
	"github.com/weir-mesh/weir/internal/term"
	"github.com/weir-mesh/weir/modes"
)

// Kuma's annotations.
const (
	kumaInjected = "kuma.io/sidecar-injected" // written by the injector
	kumaOn       = "kuma.io/transparent-proxying"
	kumaConfig   = "traffic.kuma.io/transparent-proxy-config" // a whole configuration of Kuma's, written by the injector
	kumaGateway  = "kuma.io/gateway"
	kumaUID      = "kuma.io/sidecar-uid"
	kumaFamily   = "kuma.io/transparent-proxying-ip-family-mode"

	kumaSkipInbound     = "traffic.kuma.io/exclude-inbound-ports"
	kumaSkipOutbound    = "traffic.kuma.io/exclude-outbound-ports"
	kumaSkipInboundIPs  = "traffic.kuma.io/exclude-inbound-ips"
	kumaSkipOutboundIPs = "traffic.kuma.io/exclude-outbound-ips"
	kumaSkipForUIDs     = "traffic.kuma.io/exclude-outbound-ports-for-uids"
	kumaDropInvalid     = "traffic.kuma.io/drop-invalid-packets"
)

func kumaNames() map[modes.Ref]string {
	return map[modes.Ref]string{
		{Key: "inbound.excludePorts"}:      kumaSkipInbound,
		{Key: "outbound.excludePorts"}:     kumaSkipOutbound,
		{Key: "inbound.excludeSources"}:    kumaSkipInboundIPs,
		{Key: "outbound.excludeCIDRs"}:     kumaSkipOutboundIPs,
		{Key: "outbound.exclude.uids"}:     kumaSkipForUIDs,
		{Key: "outbound.exclude.ports"}:    kumaSkipForUIDs,
		{Key: "outbound.exclude.protocol"}: kumaSkipForUIDs,
		{Key: "proxy.uids"}:                kumaUID,
	}
}

func kumaWants(p Pod) string {
	injected := istrue(p.Annotations[kumaInjected])
	on, said := p.Annotations[kumaOn]
	switch {
	case !injected && p.container("kuma-sidecar") == nil:
		return notOfIt
	case p.container("kuma-init") != nil:
		return "its container kuma-init does it"
	case p.Spec != nil && p.container("kuma-sidecar") == nil:
		return "it has no container kuma-sidecar"
	case !injected:
		return "annotation " + kumaInjected + " is missing"
	case said && !istrue(on):
		return "annotation " + kumaOn + " is " + term.Shorten(on)
	case !said && p.Annotations[kumaConfig] == "":
		return "it has neither annotation " + kumaConfig + " nor " + kumaOn
	}
	return ""
}

func readKuma(r *reading) {
	o := r.kumaDocument()
	if id, set := r.number(kumaUID, "user id", 0, maxID); set {
		o.UID = id
	}
	if gateway, set := r.value(kumaGateway); set && gateway == "enabled" {
		o.Inbound.Off = true
	}
	if family, set := r.value(kumaFamily); set {
		o.Family = family
	}
	r.ports(kumaSkipInbound, &o.Inbound.Exclude)
	r.ports(kumaSkipOutbound, &o.Outbound.Exclude)
	r.words(kumaSkipInboundIPs, &o.Inbound.ExcludeIPs)
	r.words(kumaSkipOutboundIPs, &o.Outbound.ExcludeIPs)
	if text, set := r.value(kumaSkipForUIDs); set {
		o.UserExclusions = slices.DeleteFunc(strings.Split(text, ";"), func(entry string) bool { return strings.TrimSpace(entry) == "" })
	}
	if drop, set := r.yes(kumaDropInvalid); set {
		o.DropInvalid = options.OnOff(drop)
	}
	var wrong []options.Problem
	r.Config, wrong = o.Over(r.Config)
	r.wrong(wrong, map[options.Option]string{options.UserExclusions: kumaSkipForUIDs, options.Family: kumaFamily}, map[options.Option]string{
		options.UserExclusions: "redirect.outbound.excludePortsForUIDs", options.InboundUsers: "redirect.inbound.excludePortsForUIDs",
		options.Networks: "redirect.vnet.networks", options.Family: "ipFamilyMode", options.ResolvConf: "redirect.dns.resolvConfigPath"})
}

// kumaDocument reads the whole configuration, where there is one.
func (r *reading) kumaDocument() options.Kuma {
	text, set := r.value(kumaConfig)
	if !set || text == "" {
		return options.Kuma{}
	}
	r.document = kumaConfig
	o, err := options.ParseKuma([]byte(text))
	if err != nil {
		r.problem(kumaConfig, "%v", err)
	}
	return o
}
