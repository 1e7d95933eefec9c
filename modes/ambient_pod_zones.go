// SPDX-License-Identifier: Apache-2.0

package modes

import (
	"github.com/weir-mesh/weir/rules"
)

// unaskedZone is that of what comes from port 53 and answers nothing.
const unaskedZone rules.Zone = 3

// rawPrerouting has a connection that opens from port 53 known by its zone. Answers
// are found all the same, since that is the zone of what it sends alone.
func (p *ambientPod) rawPrerouting(w *writer) {
	in := w.base("raw_prerouting", rules.FilterType, rules.Prerouting, rules.PriorityRaw)
	in.add("a connection that is opened from port 53 has a conntrack zone of its own",
		rules.UDPSport.Is(dnsPort), p.notOurs(), rules.CTOriginalZone.Set(unaskedZone))
}

// takenForAnswers drops what would be captured but that it goes to where a packet came
// from that was not asked for: conntrack takes it for the answer, and nat leaves
// answers alone, so that a query would pass the proxy (seen on 6.18). In a sidecar
// queries have a zone of both directions, which keeps them apart from such packets;
// here they have none, as with the reference.
func (p *ambientPod) takenForAnswers(w *writer, out *chainWriter) {
	dropped := w.chain("taken_for_answers")
	out.add("a query may be taken for the answer to a packet that was not asked for",
		rules.OIfName.Not("lo"), p.notOurs(), rules.UDPDport.Is(dnsPort), rules.CTZone.Is(unaskedZone), rules.Goto(dropped.Name))
	p.excludedInterfaces(dropped, rules.OIfName)
	if !p.linkLocal {
		dropped.leaveLinkLocal(rules.Return())
	}
	if !p.dns.first() {
		p.excludedPorts(dropped, rules.UDPDport)
		dropped.excluded(p.exclude.together, false)
		p.excludedOwners(dropped)
	}
	if p.dns.notDestinations() {
		p.excludedDestinations(dropped)
	}
	dropped.add("a query that is taken for an answer would pass the proxy: dropped", rules.Drop())
}

// rawOutput keeps the proxy's queries apart from the application's, which may have the
// same addresses and ports. Only what they send has the zone: answers need no rule.
func (p *ambientPod) rawOutput(w *writer) {
	out := w.base("raw_output", rules.FilterType, rules.Output, rules.PriorityRaw)
	out.add("the proxy's queries have a conntrack zone of their own", rules.UDPDport.Is(dnsPort), p.ours(), rules.CTOriginalZone.Set(proxyZone))
}
