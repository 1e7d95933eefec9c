// SPDX-License-Identifier: Apache-2.0

//go:build linux

package serve

import (
	"context"
	"net/netip"

	"github.com/weir-mesh/weir/capture"
	"github.com/weir-mesh/weir/internal/egress/settings"
	"github.com/weir-mesh/weir/internal/parse"
	"github.com/weir-mesh/weir/netns"
	"github.com/weir-mesh/weir/rules"
)

const quic rules.Port = 443

// state is what the settings have captured in a namespace, and refused.
func (s *Server) state(ctx context.Context, ns *netns.Namespace, options capture.Options) (rules.State, error) {
	c, err := capture.New(ns, Config(s.Settings), options)
	if err != nil {
		return rules.State{}, err
	}
	defer c.Close()
	state, _, err := c.State(ctx)
	if err == nil {
		refuse(state.Table, s.Settings)
	}
	return state, err
}

// refuse answers datagrams that nobody would as a closed port does: those to virtual addresses and, where names are told
// by ClientHellos over TCP, QUIC to any. Clients go on over TCP at once, where they would wait for a timeout.
func refuse(t *rules.Table, s *settings.Serve) {
	out := refusing{t, &rules.Chain{Name: "refused", Base: &rules.Base{Type: rules.FilterType, Hook: rules.Output, Priority: rules.PriorityFilter}}}
	out.add("the server's own", rules.MetaMark.Masked(mark, markMask), rules.Return())
	out.virtual(s)
	if s.RefusesQUIC() {
		out.add("QUIC stays in this pod", rules.OIfName.Is("lo"), rules.Return())
		out.add("QUIC, by which no name is told", rules.UDPDport.Is(quic), rules.Counter{}, rules.Reject{Unreachable: true})
	}
	t.Chains = append(t.Chains, out.chain)
	if len(s.Reroute) == 0 {
		return
	}
	through := refusing{t, &rules.Chain{Name: "refused_forward", Base: &rules.Base{Type: rules.FilterType, Hook: rules.Forward, Priority: rules.PriorityFilter}}}
	through.virtual(s)
	for _, word := range s.Reroute {
		nodes := []rules.Node{rules.UDPDport.Is(quic), rules.Counter{}, rules.Reject{Unreachable: true}}
		if from := parse.IfName(word); from != "*" {
			nodes = append([]rules.Node{rules.IIfName.Is(rules.IfName(from))}, nodes...)
		}
		if s.RefusesQUIC() {
			through.add("QUIC, by which no name is told", nodes...)
		}
	}
	t.Chains = append(t.Chains, through.chain)
}

// refusing is a chain that refuses datagrams.
type refusing struct {
	table *rules.Table
	chain *rules.Chain
}

func (r refusing) add(reason string, nodes ...rules.Node) {
	r.chain.Rules = append(r.chain.Rules, r.table.Expand(rules.Rule{Reason: reason, Nodes: nodes}, rules.IPv4, rules.IPv6)...)
}

func (r refusing) virtual(s *settings.Serve) {
	for _, prefix := range []netip.Prefix{s.Pool.IPv4, s.Pool.IPv6} {
		r.add("no datagram reaches a virtual address", rules.L4Proto.Is(rules.UDP), rules.Daddr.In(prefix), rules.Counter{}, rules.Reject{Unreachable: true})
	}
}
