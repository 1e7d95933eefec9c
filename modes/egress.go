// SPDX-License-Identifier: Apache-2.0

package modes

import (
	"net/netip"
	"slices"
	"time"

	"github.com/weir-mesh/weir/rules"
)

// NamesGroup is the group of NFNETLINK_LOG that mode egress copies to what tells the names
// of destinations: ClientHellos, heads of HTTP requests, Initials of QUIC, and DNS.
const NamesGroup = 900

// Sets of mode egress, of which there is one for each family, see [rules.Family.SetName].
// Their keys are destinations: an address, a protocol and a port, and behind them an owner
// where there is one: a user, a cgroup or the pod's address.
const (
	EgressPeers           = "peers"            // what was called: destinations, and of pods with their address
	EgressOpened          = "opened"           // SYNs, by owner
	EgressSent            = "sent"             // by owner
	EgressReceived        = "received"         // by owner
	EgressUnownedSent     = "unowned_sent"     // of no socket
	EgressUnownedReceived = "unowned_received" // whose socket the kernel had not found yet
	EgressPods            = "pods"             // addresses of pods whose traffic is counted, with by: pod
)

// EgressOverflow and EgressHelloOverflow are the reasons of rules that count what a full
// set had no room for: packets that no destination counts, and ClientHellos of several
// packets that are copied in part.
const (
	EgressOverflow      = "no room for another destination: counted for none"
	EgressHelloOverflow = "no room: the rest of this ClientHello is not copied"
)

// By what mode egress counts.
const (
	EgressByUID    = "uid"
	EgressByCgroup = "cgroup"
	EgressByPod    = "pod"
)

const (
	egressTimeout   = time.Hour   // of what is counted, after its last packet
	helloTimeout    = time.Second // a port that is used again sooner goes on with the quota of before
	helloSize       = 1 << 16     // connections at once whose ClientHello is not whole
	helloQuota      = 64 << 10
	maxEgressSize   = 1 << 20
	wholeCopy       = 65535
	httpCopy        = 2048
	restCopy        = 16 << 10 // no ClientHello is longer, and what follows it is not of use
	httpPort        = rules.Port(80)
	httpsPort       = rules.Port(443)
	firstEphemeral  = rules.Port(32768) // of the range that Linux takes local ports from
	tcpHeaders      = 100               // bytes of a packet at most before a ClientHello goes on, of the usual options
	usualHello      = 1200              // what a packet of any usual MTU holds
	maxHeaderWords  = 15
	leastHeaderWord = 5
)

// egress is the checked configuration of what is counted and copied.
type egress struct {
	table     string
	families  []rules.Family
	names     map[string]bool
	by        string
	level     uint8
	size      uint32
	resolvers []netip.Addr
	inner     bool
	whole     int // ClientHellos of so many bytes come in one packet
}

var egressNames = []string{"dns", "sni", "http", "quic"}

func (r *reader) egress(c Config) *egress {
	e := &egress{table: c.Table, families: r.families(c.IPv6), names: map[string]bool{}, inner: r.env.InnerPayload, whole: usualHello}
	if r.env.MTU > 0 {
		e.whole = max(0, min(usualHello, r.env.MTU-tcpHeaders))
	}
	for _, w := range r.list("watch.names", c.Watch.Names) {
		if !slices.Contains(egressNames, w) {
			r.problem("watch.names", w, "is not one of: %s", oneOf(egressNames))
		}
		e.names[w] = true
	}
	e.by = r.choice("watch.by", c.Watch.By)
	e.level = uint8(r.number("watch.cgroupLevel", c.Watch.CgroupLevel, 1, 255))
	e.size = r.number("watch.size", c.Watch.Size, 16, maxEgressSize)
	e.resolvers = r.addresses("watch.resolvers", c.Watch.Resolvers)
	if c.Watch.Resolvers == nil {
		e.resolvers = r.env.Resolvers
	}
	if e.names["dns"] && e.by != EgressByPod && len(e.resolvers) == 0 && !r.anyHost {
		r.note("watch.names", "no resolver is known: names that DNS gives are not seen (%s names some)", Ref{Key: "watch.resolvers"})
	}
	return e
}

// state writes the ruleset: filter chains alone, that decide about no packet.
func (e *egress) state() rules.State {
	w := newWriter(e.table, e.families)
	if e.by == EgressByPod {
		e.forward(w)
	} else {
		e.output(w)
		e.input(w)
	}
	for _, f := range e.families {
		e.family(w, f)
	}
	return rules.State{Table: w.table}
}

// output counts what sockets of the namespace send.
func (e *egress) output(w *writer) {
	out := w.base("output", rules.FilterType, rules.Output, rules.PriorityFilter+10)
	e.copyDNS(out, "queries", outward)
	out.rule("calls inside the namespace", rules.OIf.Is(loopbackIndex), rules.Return())
	e.calls(out)
}

// input counts answers to what output saw, whoever the peer is: inbound clients are none.
func (e *egress) input(w *writer) {
	in := w.base("input", rules.FilterType, rules.Input, rules.PriorityFilter-10)
	e.copyDNS(in, "answers", inward)
	in.rule("calls inside the namespace", rules.IIf.Is(loopbackIndex), rules.Return())
	for _, f := range e.families {
		e.answers(in, f)
	}
}

// forward counts what a node forwards for its pods, both ways.
func (e *egress) forward(w *writer) {
	c := w.base("forward", rules.FilterType, rules.Forward, rules.PriorityFilter+10)
	for _, f := range e.families {
		w.live(f.SetName(EgressPods), 1<<14, false, addresses(f).src)
	}
	e.copyDNS(c, "answers", inward)
	for _, f := range e.families {
		e.answers(c, f)
	}
	for _, f := range e.families {
		other := negate(rules.Match{Key: []rules.Selector{addresses(f).src}, Set: f.SetName(EgressPods)})
		c.rule("not sent by a pod of this node", other, rules.Return())
	}
	e.copyDNS(c, "queries", outward)
	e.calls(c)
}

// answers counts what comes back. Most packets have an owner, and one rule counts them: what
// its parts read alike is read once.
func (e *egress) answers(c *chainWriter, f rules.Family) {
	c.rule("an answer of what was called", e.isPeer(f, inward), e.counted(f, inward, EgressReceived), rules.Return())
	c.rule("an answer without an owner", e.isPeer(f, inward), rules.Goto(f.SetName(EgressReceived)))
}

// calls remembers what is called and counts what is sent there. A destination stays as long
// as packets go there.
func (e *egress) calls(c *chainWriter) {
	c.rule("a connection is opened", rules.TCPFlags.Masked(rules.SYN, rules.SYN|rules.ACK), rules.Goto("opens"))
	for _, f := range e.families {
		c.rule("more of what was called", e.isPeer(f, outward), e.remember(f), e.counted(f, outward, EgressSent), e.then(f, outward))
		c.rule("more, without an owner", e.isPeer(f, outward), e.remember(f), rules.Goto(f.SetName(EgressSent)))
	}
	c.rule("a datagram of a client", rules.UDPDport.In(dnsPort, httpsPort), rules.Goto("asks"))
	c.rule("a datagram of a client", rules.UDPSport.Within(rules.RangeBetween(firstEphemeral, 65535)), rules.UDPDport.Within(rules.RangeBetween(1, firstEphemeral-1)), rules.Goto("asks"))
	opens, asks := c.writer.chain("opens"), c.writer.chain("asks")
	for _, f := range e.families {
		opens.rule("a connection is opened", e.remember(f), rules.Goto(f.SetName(EgressOpened)))
		asks.rule("a datagram of a client", e.remember(f), rules.Goto(f.SetName(EgressSent)))
	}
	opens.rule(EgressOverflow, rules.Counter{})
	asks.rule(EgressOverflow, rules.Counter{})
}

// remember has a destination stay among what was called.
func (e *egress) remember(f rules.Family) rules.Dynset {
	return rules.Dynset{Update: true, Key: e.peer(f, outward), Set: f.SetName(EgressPeers)}
}

// counted counts a packet by owner.
func (e *egress) counted(f rules.Family, d direction, set string) rules.Dynset {
	return rules.Dynset{Update: true, Key: e.owned(f, d), Set: f.SetName(set)}
}

// then is what happens to a packet once it is counted.
func (e *egress) then(f rules.Family, d direction) rules.Verdict {
	if d == outward && e.copies() {
		return rules.Goto(f.SetName("names"))
	}
	return rules.Return()
}

// family writes the sets and chains that count one family's packets.
func (e *egress) family(w *writer, f rules.Family) {
	w.live(f.SetName(EgressPeers), e.size, false, e.peer(f, outward)...)
	for _, name := range []string{EgressOpened, EgressSent, EgressReceived} {
		w.live(f.SetName(name), e.size, true, e.owned(f, outward)...)
	}
	opened := w.chain(f.SetName(EgressOpened))
	opened.rule("counted by owner", e.counted(f, outward, EgressOpened), rules.Goto(f.SetName(EgressSent)))
	opened.rule("a connection without an owner", rules.Goto(f.SetName(EgressSent)))
	e.count(w, f, outward, EgressSent, EgressUnownedSent)
	if e.copies() {
		e.copyNames(w, f)
	}
	e.count(w, f, inward, EgressReceived, EgressUnownedReceived)
}

// count counts a direction: by owner, where the packet has one, else by destination alone.
func (e *egress) count(w *writer, f rules.Family, d direction, set, unowned string) {
	c := w.chain(f.SetName(set))
	c.rule("counted by owner", e.counted(f, d, set), e.then(f, d))
	if e.by != EgressByPod {
		w.live(f.SetName(unowned), e.size, true, destination(f, d)...)
		c.rule("counted without an owner", rules.Dynset{Update: true, Key: destination(f, d), Set: f.SetName(unowned)}, e.then(f, d))
	}
	c.rule(EgressOverflow, rules.Counter{}, e.then(f, d))
}

// direction is which end of a packet is the destination that was called.
type direction bool

const (
	outward direction = false
	inward  direction = true
)

type ends struct{ src, dst rules.Selector }

func addresses(f rules.Family) ends {
	if f == rules.IPv4 {
		return ends{rules.IPSaddr.Selector(), rules.IPDaddr.Selector()}
	}
	return ends{rules.IP6Saddr.Selector(), rules.IP6Daddr.Selector()}
}

// destination is what was called: an address, a protocol and a port.
func destination(f rules.Family, d direction) []rules.Selector {
	if d == inward {
		return []rules.Selector{addresses(f).src, rules.L4Proto.Selector(), rules.ThSport.Selector()}
	}
	return []rules.Selector{addresses(f).dst, rules.L4Proto.Selector(), rules.ThDport.Selector()}
}

// peer is a destination that was called, and of pods by which.
func (e *egress) peer(f rules.Family, d direction) []rules.Selector {
	if e.by == EgressByPod {
		return e.owned(f, d)
	}
	return destination(f, d)
}

// owned is a destination and who called it.
func (e *egress) owned(f rules.Family, d direction) []rules.Selector {
	owner := rules.SkUID.Selector()
	switch {
	case e.by == EgressByCgroup:
		owner = rules.SocketCgroup(e.level).Selector()
	case e.by == EgressByPod && d == inward:
		owner = addresses(f).dst
	case e.by == EgressByPod:
		owner = addresses(f).src
	}
	return append(destination(f, d), owner)
}

func (e *egress) isPeer(f rules.Family, d direction) rules.Match {
	return rules.Match{Key: e.peer(f, d), Set: f.SetName(EgressPeers)}
}

func negate(m rules.Match) rules.Match {
	m.Negated = !m.Negated
	return m
}

// live declares a set that packets or a reader fill.
func (w *writer) live(name string, size uint32, counts bool, key ...rules.Selector) {
	types := rules.Match{Key: key}.Types()
	s := &rules.Set{Name: name, Key: types, Live: true, Size: size, Counters: counts}
	if len(key) > 1 {
		s.Dynamic, s.Expires, s.Timeout = true, true, egressTimeout
	}
	w.table.Sets = append(w.table.Sets, s)
}

// rule appends a rule that does not count: packets pay for every counter.
func (c *chainWriter) rule(reason string, nodes ...rules.Node) {
	c.Rules = append(c.Rules, rules.Rule{Reason: reason, Nodes: nodes})
}
