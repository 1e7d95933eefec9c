// SPDX-License-Identifier: Apache-2.0

//go:build linux

package istio

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"

	"github.com/weir-mesh/weir/internal/mesh/options"
	"github.com/weir-mesh/weir/internal/parse"
	"github.com/weir-mesh/weir/internal/problems"
	"github.com/weir-mesh/weir/internal/term"
	"github.com/weir-mesh/weir/modes"
)

const (
	defaultProxyUser  = "istio-proxy"
	wholeMark         = "0xffffffff" // a mask
	referenceLoopMark = 1338         // of the proxy's calls to its own pod, which no flag sets
)

// Config is the configuration that means the same, but for IPv6, which the namespace decides (see
// [Arguments.Resolve]). The error joins everything that is wrong with the values.
func (a *Arguments) Config(env modes.Environment) (modes.Config, error) {
	c, wrong := a.options().Over(modes.Config{
		Mode:     modes.ModeSidecar,
		Proxy:    a.proxy(env),
		Inbound:  modes.Inbound{Via: "redirect", Port: portWord(a.inboundPort), TunnelPort: portWord(a.tunnelPort)},
		Outbound: modes.Outbound{Via: "redirect", Port: portWord(a.outboundPort), LinkLocal: "captured"}, // as in the reference
		DNS:      modes.DNS{Capture: a.dnsCapture()},
		Loopback: modes.Loopback{CIDR: a.variable(loopbackCIDR)},
		Routing:  a.routing(),
	})
	a.groups(&c.Outbound)
	if a.dropInvalid {
		c.DropInvalid = "enabled"
	}
	a.untrack(&c)
	var errs []error
	for _, p := range wrong {
		errs = append(errs, fmt.Errorf("--istio-service-exclude-cidr: %s (leave --istio-service-cidr empty for that)", p.Text))
	}
	return c, problems.Join(append(errs, a.refused(), Problem(modes.Check(c)))...)
}

// options are the arguments that annotations have too.
func (a *Arguments) options() options.Istio {
	o := options.Istio{
		TProxy:            a.mode == "TPROXY",
		IncludeInbound:    append([]modes.PortWord{}, portWords(a.inboundPorts)...),
		IncludeOutbound:   portWords(a.outboundPorts),
		ExcludeOutbound:   portWords(a.outboundExclude),
		IncludeCIDRs:      includedPrefixes(a.outboundCIDRs),
		ExcludeCIDRs:      excludedPrefixes(a.outboundExcludeCIDRs),
		ExcludeInterfaces: interfaceNames(a.excludeInterfaces),
		Reroute:           interfaceNames(a.kubeVirtInterfaces),
	}
	if a.inboundPorts == "*" {
		o.ExcludeInbound = portWords(a.inboundExclude) // which count only then
	}
	return o
}

// untrack has the proxy's mark, and with WEIR_CONNTRACK=none both directions captured by
// tproxy, whatever the mode: the injection template always passes one.
func (a *Arguments) untrack(c *modes.Config) {
	c.Conntrack, c.Proxy.Mark = a.variable(conntrackUse), modes.MarkWord(a.variable(proxyMark))
	if !a.untracked() {
		return
	}
	switch c.Inbound.Via {
	case "redirect":
		c.Inbound.Via = "tproxy"
	case "marks":
		c.Inbound.Via = "none"
	}
	if c.Outbound.Via == "redirect" {
		c.Outbound.Via = "tproxy"
	}
}

func (a *Arguments) untracked() bool { return parse.IsNone(a.variable(conntrackUse)) }

// refused reports what the reference refuses and a configuration does not.
func (a *Arguments) refused() error {
	var errs []error
	if word := a.variable(resetOpen); word != "" {
		if _, err := strconv.ParseBool(word); err != nil {
			errs = append(errs, fmt.Errorf("%s: %q is not true or false", resetOpen, term.Shorten(word)))
		}
	}
	for _, flag := range []string{"istio-inbound-ports", "istio-local-exclude-ports", "istio-exclude-interfaces", "istio-service-cidr",
		"istio-service-exclude-cidr", "istio-outbound-ports", "istio-local-outbound-ports-exclude", "kube-virt-interfaces"} {
		for _, w := range options.Split(a.flags.Lookup(flag).Value.String()) {
			if w != "*" && (parse.IsAll(w) || parse.IsNone(w)) {
				errs = append(errs, fmt.Errorf("--%s: %q means nothing here (want '*' for all, or an empty list for none)", flag, w))
			}
		}
	}
	if _, err := parseLevel(a.logLevel); err != nil {
		errs = append(errs, err)
	}
	if b := a.forceIptablesBinary; b != "" && b != "legacy" && b != "nft" {
		errs = append(errs, fmt.Errorf("--force-iptables-binary: %q is neither legacy nor nft", term.Shorten(b)))
	}
	if a.RunValidation && a.ProbeTimeout <= 0 {
		errs = append(errs, fmt.Errorf("--probe-timeout: %s is not a time to try in (want such as 5s)", a.ProbeTimeout))
	}
	return errors.Join(errs...)
}

func (a *Arguments) proxy(env modes.Environment) modes.Proxy {
	uid := a.proxyUID
	if uid == "" {
		id, known := env.Users[cmp.Or(a.variable(proxyUser), defaultProxyUser)]
		if !known {
			id = options.IstioID
		}
		uid = strconv.FormatUint(uint64(id), 10)
	}
	return modes.Proxy{UIDs: options.Split(uid), GIDs: options.Split(cmp.Or(a.proxyGID, uid))}
}

// groups captures nothing where no group is included, unless what comes from an interface is.
func (a *Arguments) groups(out *modes.Outbound) {
	groups, every := a.includedGroups()
	if every {
		out.ExcludeGIDs = options.Split(a.variable(ownerGroupsExclude))
		return
	}
	out.IncludeGIDs = options.Split(groups)
	if len(out.IncludeGIDs) == 0 && len(options.Split(a.kubeVirtInterfaces)) == 0 {
		out.Via = "none"
	}
}

// kernelTables are the kernel's routing tables, by what becomes of packets where the
// reference is told to use one. The route that it adds to table 0 goes to main, where
// the pod has its default route already, and its policy rule finds an empty table.
var kernelTables = map[string]string{"0": "none", "254": "none", "255": "local"}

// routing has the reference's marks. It matches and sets whole marks, so that a packet
// with a bit of another program's in its mark is not the reference's; the variable
// WEIR_MARK_MASK names the bits that count.
func (a *Arguments) routing() modes.Routing {
	mask := modes.MarkWord(a.variable(markMask))
	if a.mode != "TPROXY" || a.untracked() {
		return modes.Routing{Mask: mask}
	}
	r := modes.Routing{Mark: modes.MarkWord(a.tproxyMark), Table: a.tproxyTable, Mask: cmp.Or(mask, wholeMark)}
	if a.inboundPorts == "" { // a list without a port, such as a comma, has the routing
		r.Table = "none"
	}
	if r.Mark == "0" {
		r.Mark += "/" + wholeMark
	}
	if table := kernelTables[r.Table]; table != "" {
		r.Table = table
	}
	if n, err := strconv.ParseUint(a.tproxyMark, 0, 32); err == nil && n == referenceLoopMark {
		r.LoopMark = modes.MarkWord(a.tproxyMark)
	}
	return r
}

func (a *Arguments) dnsCapture() string {
	switch {
	case a.redirectDNS && a.captureAllDNS:
		return "all"
	case a.redirectDNS:
		return "servers"
	}
	return "none"
}
