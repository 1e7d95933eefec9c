// SPDX-License-Identifier: Apache-2.0

//go:build linux

package sight

import (
	"slices"
	"strings"

	"github.com/weir-mesh/weir/internal/escape"
	"github.com/weir-mesh/weir/nft"
	"github.com/weir-mesh/weir/rules"
)

// maker is a program that has no business with capture, told by what it calls its tables and
// chains.
type maker struct {
	name           string
	tables, chains []string // prefixes
}

func makers() []maker {
	return []maker{
		{"docker", []string{"docker-"}, []string{"DOCKER"}},
		{"kube-proxy", []string{"kube-proxy"}, []string{"KUBE-"}},
		{"firewalld", []string{"firewalld"}, nil},
		{"tailscale", nil, []string{"ts-"}},
		{"cilium", nil, []string{"CILIUM_", "OLD_CILIUM_"}},
		{"calico", []string{"calico"}, []string{"cali-"}},
		{"nodelocaldns", nil, []string{"NODELOCAL"}},
		{"libvirt", []string{"libvirt_"}, []string{"LIBVIRT_"}},
		{"netavark", []string{"netavark"}, []string{"NETAVARK"}},
		{"CNI portmap", []string{"cni_hostport"}, []string{"CNI-"}},
	}
}

// Owner is whose the table is, "" where nothing tells.
func Owner(t *nft.LiveTable) string {
	if t.Tag != nil {
		return "weir --table " + escape.Text(t.Name)
	}
	if t.Owner != nil {
		return t.Owner.String()
	}
	for _, e := range engines() {
		if len(e.signs(t)) > 0 {
			return e.name
		}
	}
	for _, m := range makers() {
		if hasPrefix(t.Name, m.tables) || slices.ContainsFunc(t.Chains, func(c *rules.Chain) bool { return hasPrefix(c.Name, m.chains) }) {
			return m.name
		}
	}
	if slices.Contains([]string{"raw", "mangle", "nat", "filter", "security"}, t.Name) && strings.HasPrefix(t.Family, "ip") {
		return "iptables-nft"
	}
	return ""
}
