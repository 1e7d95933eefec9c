// SPDX-License-Identifier: Apache-2.0

//go:build linux

package ambient

import (
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/jsimonetti/rtnetlink/v2"
	"github.com/weir-mesh/weir/internal/reserved"
	"golang.org/x/sys/unix"
)

// In AWS a pod with security groups of its own has a branch interface, and Amazon's plugin a policy rule by which what
// the pod sends is looked up in that interface's table, before table local. An answer to a probe, of which the probe's
// own address was translated, would leave by the branch interface, and the probe itself finds the pod in that table
// alone. Where Amazon's plugin is set up for probes of such pods, early demultiplexing of TCP is off.
const (
	earlyDemux    = "net/ipv4/tcp_early_demux"
	toPodPriority = 512 // that of Amazon's own rules to pods
)

// policyRule is one of the policy rules that probes of such pods need.
type policyRule struct {
	to       netip.Addr // the pod's address, or
	in       string     // the interface by which its answers come
	family   uint8
	table    uint32
	priority uint32
}

// branchRules makes the policy rules of pods with a branch interface what the members need, and returns how many were
// added and deleted. The caller holds hostMu.
func (s *Side) branchRules() (added, deleted int, err error) {
	now, err := s.Host.Sysctls(earlyDemux)
	if err != nil || now[earlyDemux] != "0" {
		return 0, 0, err
	}
	addresses := map[netip.Addr]bool{}
	s.mu.Lock()
	for a := range addressesOf(s.members) {
		addresses[a] = true
	}
	s.mu.Unlock()
	err = s.Host.Inside(func() error {
		c, err := rtnetlink.Dial(nil)
		if err != nil {
			return err
		}
		defer c.Close()
		added, deleted, err = changeBranchRules(c, addresses)
		return err
	})
	if err != nil {
		err = fmt.Errorf("policy rules of pods with a branch interface: %w", err)
	}
	return added, deleted, err
}

func changeBranchRules(c *rtnetlink.Conn, addresses map[netip.Addr]bool) (added, deleted int, err error) {
	listed, err := c.Rule.List()
	if err != nil {
		return 0, 0, err
	}
	routes, err := c.Route.List()
	if err != nil {
		return 0, 0, err
	}
	have := map[policyRule]bool{}
	want := map[policyRule]bool{}
	for _, m := range listed {
		r := policyRuleOf(m)
		if a := m.Attributes; a != nil && a.Protocol != nil && *a.Protocol == reserved.BranchProtocol {
			have[r] = true
			continue
		}
		for _, w := range besideAmazons(r, routes, addresses) {
			want[w] = true
		}
	}
	for r := range want {
		if !have[r] {
			if err := c.Rule.Add(r.message()); err != nil {
				return added, deleted, err
			}
			added++
		}
	}
	for r := range have {
		if !want[r] {
			if err := c.Rule.Delete(r.message()); err != nil {
				return added, deleted, err
			}
			deleted++
		}
	}
	return added, deleted, nil
}

// besideAmazons are the rules that are needed beside one by which what an interface brings is looked up in a table:
// none where the table does not lead to a pod of the mesh by that interface.
func besideAmazons(r policyRule, routes []rtnetlink.RouteMessage, addresses map[netip.Addr]bool) (out []policyRule) {
	if r.in == "" || r.in == "lo" || r.priority == 0 || r.table == unix.RT_TABLE_LOCAL {
		return nil
	}
	link, err := net.InterfaceByName(r.in)
	if err != nil {
		return nil // a rule may name one that has gone
	}
	for _, route := range routes {
		to, ok := netip.AddrFromSlice(route.Attributes.Dst)
		if !ok || route.Family != r.family || int(route.DstLength) != to.BitLen() ||
			route.Attributes.Table != r.table || route.Attributes.OutIface != uint32(link.Index) || !addresses[to.Unmap()] {
			continue
		}
		out = append(out, policyRule{to: to.Unmap(), family: r.family, table: r.table, priority: toPodPriority},
			policyRule{in: r.in, family: r.family, table: unix.RT_TABLE_LOCAL, priority: r.priority - 1})
	}
	return out
}

func policyRuleOf(m rtnetlink.RuleMessage) (r policyRule) {
	r.family, r.table = m.Family, uint32(m.Table)
	a := m.Attributes
	if a == nil {
		return r
	}
	if a.Table != nil {
		r.table = *a.Table
	}
	if a.Priority != nil {
		r.priority = *a.Priority
	}
	if a.IIFName != nil {
		r.in = *a.IIFName
	}
	if a.Dst != nil {
		if to, ok := netip.AddrFromSlice(*a.Dst); ok {
			r.to = to.Unmap()
		}
	}
	return r
}

func (r policyRule) message() *rtnetlink.RuleMessage {
	protocol := uint8(reserved.BranchProtocol)
	m := &rtnetlink.RuleMessage{Family: r.family, Action: unix.FR_ACT_TO_TBL, Table: unix.RT_TABLE_UNSPEC,
		Attributes: &rtnetlink.RuleAttributes{Table: &r.table, Priority: &r.priority, Protocol: &protocol}}
	if r.table < 256 {
		m.Table = uint8(r.table)
	}
	if r.in != "" {
		m.Attributes.IIFName = &r.in
	}
	if r.to.IsValid() {
		to := net.IP(slices.Clone(r.to.AsSlice()))
		m.Attributes.Dst, m.DstLength = &to, uint8(r.to.BitLen())
	}
	return m
}
