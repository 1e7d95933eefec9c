// SPDX-License-Identifier: Apache-2.0

//go:build linux

package ambient

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/weir-mesh/weir/capture"
	"github.com/weir-mesh/weir/internal/mesh"
	"github.com/weir-mesh/weir/modes"
)

// Settings are what the node's operator decided about its ambient pods. The zero Settings are those of
// Istio's agent but for dns.
type Settings struct {
	DNS  bool // queries are captured, unless a pod's annotation says otherwise
	IPv6 bool // IPv6 is captured in pods that have it
}

// Annotations that shape the capture of one pod.
const (
	bypassInbound  = "ambient.istio.io/bypass-inbound-capture"
	dnsCapture     = "ambient.istio.io/dns-capture"
	rerouteVirtual = "istio.io/reroute-virtual-interfaces"
)

// Redirection is the annotation by which istiod and istioctl know that a pod is in the mesh.
const Redirection = "ambient.istio.io/redirection"

// Values of Redirection.
const (
	Enabled = "enabled" // it is captured, and the proxy serves it
	Pending = "pending" // it is to be, and is not yet
)

// Config is the configuration of a pod's namespace. A value of an annotation that is not a truth value counts
// as none, as in Istio.
func (s Settings) Config(p mesh.Pod) modes.Config {
	c := modes.Config{Mode: modes.ModeAmbientPod, IPv6: s.ipv6(), DNS: modes.DNS{Capture: "none"}}
	if truth(p.Annotations, dnsCapture, s.DNS) {
		c.DNS.Capture = "all"
	}
	if truth(p.Annotations, bypassInbound, false) {
		c.Inbound.Via = "none"
	}
	for _, name := range strings.Split(p.Annotations[rerouteVirtual], ",") {
		if name = strings.TrimSpace(name); name != "" {
			c.Interfaces.Reroute = append(c.Interfaces.Reroute, modes.Rerouted{Name: name})
		}
	}
	return c
}

// host is the configuration of the machine's own namespace.
func (s Settings) host() modes.Config {
	return modes.Config{Mode: modes.ModeAmbientHost, IPv6: s.ipv6()}
}

func (s Settings) ipv6() string {
	if s.IPv6 {
		return "auto"
	}
	return "disabled"
}

func truth(annotations map[string]string, name string, otherwise bool) bool {
	if is, err := strconv.ParseBool(annotations[name]); err == nil {
		return is
	}
	return otherwise
}

// addressesOf is the probe set of pods.
func addressesOf(pods map[string]*member) capture.Pods {
	set := capture.Pods{}
	for _, uid := range slices.Sorted(maps.Keys(pods)) {
		maps.Copy(set, pods[uid].probeSet())
	}
	return set
}

// probeSet is what the host's probe set has of a pod.
func (p Pod) probeSet() capture.Pods {
	set := capture.Pods{}
	for _, a := range p.Addresses {
		set[a.Unmap().WithZone("")] = p.UID
	}
	return set
}
