// SPDX-License-Identifier: Apache-2.0

//go:build linux

package istio

import (
	"github.com/weir-mesh/weir/internal/meshinit"
	"github.com/weir-mesh/weir/modes"
)

// names are istio-init's flags and variables for the keys of a configuration, and its words for a key
// with a value.
func names() meshinit.Names {
	return meshinit.Names{
		{Key: "proxy.uids"}:            "--proxy-uid",
		{Key: "proxy.gids"}:            "--proxy-gid",
		{Key: "inbound.port"}:          "--inbound-capture-port",
		{Key: "inbound.tunnelPort"}:    "--inbound-tunnel-port",
		{Key: "inbound.includePorts"}:  "--istio-inbound-ports",
		{Key: "inbound.excludePorts"}:  "--istio-local-exclude-ports",
		{Key: "outbound.port"}:         "--envoy-port",
		{Key: "outbound.includeCIDRs"}: "--istio-service-cidr",
		{Key: "outbound.excludeCIDRs"}: "--istio-service-exclude-cidr",
		{Key: "outbound.includePorts"}: "--istio-outbound-ports",
		{Key: "outbound.excludePorts"}: "--istio-local-outbound-ports-exclude",
		{Key: "outbound.includeGIDs"}:  ownerGroups,
		{Key: "outbound.excludeGIDs"}:  ownerGroupsExclude,
		{Key: "interfaces.exclude"}:    "--istio-exclude-interfaces",
		{Key: "interfaces.reroute"}:    "--kube-virt-interfaces",
		{Key: "loopback.cidr"}:         loopbackCIDR,
		{Key: "routing.mark"}:          "--istio-inbound-tproxy-mark",
		{Key: "routing.loopMark"}:      "--istio-inbound-tproxy-mark",
		{Key: "routing.mask"}:          markMask,
		{Key: "routing.table"}:         "--istio-inbound-tproxy-route-table",
		{Key: "conntrack"}:             conntrackUse,
		{Key: "proxy.mark"}:            proxyMark,
		{Key: "dropInvalid"}:           "--drop-invalid",
		{Key: "dns.capture"}:           "--redirect-dns",
		{Key: "dns.servers"}:           "resolv.conf",

		{Key: "inbound.via", Value: "none"}:    "an empty --istio-inbound-ports",
		{Key: "inbound.via", Value: "tproxy"}:  "--istio-inbound-interception-mode TPROXY",
		{Key: "outbound.via", Value: "none"}:   "an empty --istio-service-cidr",
		{Key: "dns.capture", Value: "all"}:     "--capture-all-dns",
		{Key: "dropInvalid", Value: "enabled"}: "--drop-invalid",
		{Key: "conntrack", Value: "none"}:      conntrackUse + "=none",
	}
}

// Note is a note that names istio-init's flags.
func Note(n modes.Note) modes.Note { return names().Note(n) }

// Problem is an error of modes, of which each [modes.ConfigError] names istio-init's flags. The
// others stay.
func Problem(err error) error { return names().Problem(err) }
