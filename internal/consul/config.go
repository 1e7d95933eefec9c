// SPDX-License-Identifier: Apache-2.0

//go:build linux

package consul

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/weir-mesh/weir/internal/mesh/options"
	"github.com/weir-mesh/weir/internal/meshinit"
	"github.com/weir-mesh/weir/internal/problems"
	"github.com/weir-mesh/weir/internal/term"
	"github.com/weir-mesh/weir/modes"
)

// names are redirect-traffic's flags for the keys of a configuration.
func names() meshinit.Names {
	return meshinit.Names{
		{Key: "proxy.uids"}:            "-proxy-uid",
		{Key: "inbound.port"}:          "-proxy-inbound-port",
		{Key: "inbound.excludePorts"}:  "-exclude-inbound-port",
		{Key: "outbound.port"}:         "-proxy-outbound-port",
		{Key: "outbound.excludePorts"}: "-exclude-outbound-port",
		{Key: "outbound.excludeCIDRs"}: "-exclude-outbound-cidr",
		{Key: "outbound.excludeUIDs"}:  "-exclude-uid",
		{Key: "dns.servers"}:           "-consul-dns-ip",
		{Key: "dns.to"}:                "-consul-dns-ip",
		{Key: "ipv6"}:                  "-dual-stack",
	}
}

// config is the configuration that means the same.
func (a *arguments) config() (modes.Config, error) {
	c, wrong := options.Consul{
		UID: a.uid, InboundPort: modes.PortWord(strconv.Itoa(a.inbound)), OutboundPort: modes.PortWord(strconv.Itoa(a.outbound)),
		ExcludeInbound: options.PortWords(a.inPorts), ExcludeOutbound: options.PortWords(a.outPorts), ExcludeCIDRs: a.outCIDRs, ExcludeUIDs: a.ids,
		DNSAddress: a.dnsIP, DNSPort: a.dnsPort, DualStack: &a.dualStack,
	}.Over(options.ConsulRules())
	if a.dualStack {
		c.IPv6 = "enabled"
	}
	refused := a.refused()
	for _, p := range wrong {
		refused = errors.Join(refused, fmt.Errorf("%s: %s", flagOf[p.Option], p.Text))
	}
	if a.uid == "" || a.inbound == 0 {
		return c, refused
	}
	return c, problems.Join(refused, names().Problem(modes.Check(c)))
}

var flagOf = map[options.Option]string{options.DNSAddress: "-consul-dns-ip", options.DNSPort: "-consul-dns-port"}

// refused reports what the reference refuses and a configuration does not, and what cannot be done.
func (a *arguments) refused() error {
	var errs []error
	problem := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if a.uid == "" {
		problem("-proxy-uid: is required")
	}
	if a.id != "" {
		problem("-proxy-id: Consul is not asked for the registration of %q (want -proxy-inbound-port, and the ports that it exposes as -exclude-inbound-port)", term.Shorten(a.id))
	}
	if a.node != "" {
		problem("-node-name: is used only with -proxy-id, which Consul would be asked for")
	}
	if a.inbound == 0 && a.id == "" {
		problem("-proxy-inbound-port: is required")
	}
	return errors.Join(errs...)
}
