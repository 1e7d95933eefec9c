// SPDX-License-Identifier: Apache-2.0

package modes

import "github.com/weir-mesh/weir/rules"

// Capture without connection tracking judges every packet by itself, where nat judges
// the first one of a connection and conntrack remembers. So what tells packets apart
// must be on each of them, those of closed sockets and of SYN cookies too: the marks.
// The proxy's own, which its sockets have, lets a packet leave as it is. The mark of
// routing.mark has it delivered over lo, where the outbound listener's connected socket,
// or the listener, is found by tproxy; that of routing.loopMark takes the proxy's call
// to its own pod to the inbound listener.

const (
	conntrackUsed = "used"
	conntrackNone = "none"

	prerouting = "prerouting"
	output     = "output"
)

// bareSYN are the flags of a packet that opens a connection, among those that tell.
const bareSYN, tellingFlags = rules.SYN, rules.FIN | rules.SYN | rules.RST | rules.ACK

func opens() rules.Match { return rules.TCPFlags.Masked(bareSYN, tellingFlags) }

// untrackedState writes the ruleset: as few rules before the common verdicts as the
// configuration allows, since every packet meets them.
func (s *sidecar) untrackedState() rules.State {
	w := newWriter(s.table, s.families)
	s.untrackedPrerouting(w)
	s.untrackedOutput(w)
	s.guard(w)
	state := rules.State{Table: w.table, Addresses: s.lo, Untracked: true, ProxyMark: s.mark, ProxyMask: s.markMask}
	s.deliverLooped(&state)
	if s.answersByMark() {
		state.Sysctls = s.answerSettings()
	}
	return state
}

// proxyMark matches what the proxy sends.
func (s *sidecar) proxyMark() rules.Match { return rules.MetaMark.Masked(s.mark, s.markMask) }

func (s *sidecar) setProxyMark() rules.Assign { return rules.MetaMark.SetMasked(s.mark, s.markMask) }

// ownCall matches the proxy's calls to its own pod.
func (s *sidecar) ownCall() rules.Match { return rules.MetaMark.Masked(s.loopMark, s.loopMask) }

// answersByMark reports whether the application's answers to what is not captured are told
// by the mark that its sockets inherit, for where few ports are captured or none, or some
// sources are not, the source port says nothing: it may be one of the application's own
// connections.
func (s *sidecar) answersByMark() bool {
	return s.inbound.via == viaNone || !s.inbound.all || len(s.sources) > 0
}

func (s *sidecar) answerSettings() []rules.Sysctl {
	const why = "connections to ports that are not captured are answered as they are"
	settings := []rules.Sysctl{
		{Name: "net/ipv4/tcp_fwmark_accept", Value: "1", Why: why},
		{Name: "net/ipv4/fwmark_reflect", Value: "1", Why: why},
	}
	if s.ipv6() {
		settings = append(settings, rules.Sysctl{Name: "net/ipv6/fwmark_reflect", Value: "1", Why: why})
	}
	return settings
}

// datagrams reports whether UDP is looked at.
func (s *sidecar) datagrams() bool {
	return s.dns.capture != dnsNone || len(s.udpOut.include)+len(s.udpIn.include) > 0
}

// protocols leaves alone what is not looked at, and has conntrack, should anyone else
// have switched it on, pass over the rest.
func (s *sidecar) protocols(c *chainWriter, datagrams string) {
	if s.datagrams() {
		c.lead("UDP has rules of its own", rules.L4Proto.Is(rules.UDP), rules.Goto(datagrams))
	}
	c.add("only TCP and what is listed of UDP is captured", not(rules.L4Proto.Is(rules.TCP)), rules.Return())
	c.lead("no connection is tracked", rules.NoTrack{})
}

// loops reports whether anything that this pod sends is delivered over lo by its mark.
func (s *sidecar) loops() bool {
	return s.outbound.via != viaNone || s.dns.capture == dnsAll || len(s.udpOut.include)+len(s.udpIn.include) > 0
}

// deliverLooped adds the policy rules and the route: only what is sent here is looked
// up by the mark of what is looped, so that nothing that arrives can have it. What arrives
// with the proxy's mark was given to a socket here.
func (s *sidecar) deliverLooped(state *rules.State) {
	g := s.routing
	if s.loops() {
		g.deliver(state)
		state.Routes = append(state.Routes, g.loopedToo(s.bound)...)
		for i := range state.PolicyRules {
			state.PolicyRules[i].In = "lo"
		}
	}
	if s.inbound.via == viaNone && !s.ownCalls && !s.reroute.any() {
		return
	}
	by := rules.State{}
	g.mark, g.mask, g.priority = s.mark, s.markMask, max(g.priority, 2)-1
	g.deliver(&by)
	for _, r := range by.PolicyRules {
		out := r
		out.Priority, out.Table, out.In, out.Goto = r.Priority-1, 0, "lo", mainPriority
		state.PolicyRules = append(state.PolicyRules, out, r)
	}
	if !s.loops() {
		state.Routes = by.Routes
	}
}
