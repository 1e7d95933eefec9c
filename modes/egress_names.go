// SPDX-License-Identifier: Apache-2.0

package modes

import (
	"net/netip"

	"github.com/weir-mesh/weir/rules"
)

// copies reports whether packets to destinations tell their names.
func (e *egress) copies() bool { return e.names["sni"] || e.names["http"] || e.names["quic"] }

// copyDNS copies what passes between the namespace and its resolvers, over lo too: of others
// nothing is believed. Of pods it copies DNS with whatever resolver: behind a service it is one
// of many.
func (e *egress) copyDNS(c *chainWriter, chain string, d direction) {
	if !e.names["dns"] {
		return
	}
	udp, tcp := rules.UDPDport.Is(dnsPort), rules.TCPDport.Is(dnsPort)
	if d == inward {
		udp, tcp = rules.UDPSport.Is(dnsPort), rules.TCPSport.Is(dnsPort)
	}
	c.rule("DNS", udp, rules.Jump(chain))
	c.rule("DNS over TCP", append(append([]rules.Node{tcp}, e.hasData()...), rules.Jump(chain))...)
	to := c.writer.chain(chain)
	copied := rules.Log{Group: NamesGroup, Snaplen: wholeCopy}
	for _, f := range e.families {
		if e.by == EgressByPod {
			to.rule("DNS of a pod", e.dnsOfPod(f, d), copied)
			continue
		}
		end := addresses(f).dst
		if d == inward {
			end = addresses(f).src
		}
		to.rule("DNS of a resolver", rules.Match{Key: []rules.Selector{end}, Set: e.resolverSet(c.writer, f)}, copied)
	}
}

// dnsOfPod matches queries of pods, and answers of what they called.
func (e *egress) dnsOfPod(f rules.Family, d direction) rules.Match {
	if d == inward {
		return e.isPeer(f, inward)
	}
	return rules.Match{Key: []rules.Selector{addresses(f).src}, Set: f.SetName(EgressPods)}
}

// resolverSet declares the resolvers of a family, once.
func (e *egress) resolverSet(w *writer, f rules.Family) string {
	name := f.SetName("resolvers")
	if w.table.Set(name) != nil {
		return name
	}
	s := &rules.Set{Name: name, Key: rules.Match{Key: []rules.Selector{addresses(f).src}}.Types()}
	for _, a := range e.resolvers {
		if rules.AddressFamily(a) == f {
			s.Elements = append(s.Elements, rules.Element{Key: []rules.Range{rules.RangeOf(netip.PrefixFrom(a, a.BitLen()))}})
		}
	}
	w.table.Sets = append(w.table.Sets, s)
	return name
}

// hasData matches packets that hold more than headers. Where the kernel cannot tell the end
// of a TCP header, it is every packet.
func (e *egress) hasData() []rules.Node {
	if !e.inner {
		return nil
	}
	return []rules.Node{rules.IhRaw(0, 1).Within(rules.RangeBetween[rules.Raw]("\x00", "\xff"))}
}

// copyNames copies what tells the name of the destination. Chains of their own have what few
// packets are for.
func (e *egress) copyNames(w *writer, f rules.Family) {
	c := w.chain(f.SetName("names"))
	if e.names["quic"] {
		c.rule("maybe QUIC", rules.UDPDport.Is(httpsPort), rules.Goto("initials"))
		e.copyInitials(w)
	}
	c.rule("not TCP", rules.L4Proto.Not(rules.TCP), rules.Return())
	if e.names["sni"] {
		w.table.Sets = append(w.table.Sets, &rules.Set{Name: f.SetName("hello"), Key: rules.Match{Key: connection(f)}.Types(), Live: true, Dynamic: true, Expires: true,
			Timeout: helloTimeout, Size: helloSize, Quota: helloQuota})
	}
	if e.inner {
		e.copyBegun(c, f, "", rules.IhRaw)
		return
	}
	for words := leastHeaderWord; words <= maxHeaderWords; words++ {
		suffix := "_" + string("0123456789abcdef"[words])
		name := f.SetName("data") + suffix
		c.rule("the header has that length", rules.L4Proto.Is(rules.TCP), rules.ThRaw(12, 1).Masked(rules.Raw([]byte{byte(words << 4)}), "\xf0"), rules.Goto(name))
		data := w.chain(name)
		e.copyBegun(data, f, suffix, func(offset, length int) rules.Key[rules.Raw] { return rules.ThRaw(4*words+offset, length) })
	}
}

func connection(f rules.Family) []rules.Selector {
	a := addresses(f)
	return []rules.Selector{a.src, rules.TCPSport.Selector(), a.dst, rules.TCPDport.Selector()}
}

// copyBegun copies packets with which a ClientHello or a request begins, and those that follow
// the beginning of a ClientHello. What begins is looked at first: where a port is used again, it
// begins the timeout of the connection's element anew, which else may end before the rest comes.
func (e *egress) copyBegun(c *chainWriter, f rules.Family, suffix string, at func(offset, length int) rules.Key[rules.Raw]) {
	hello := f.SetName("hello")
	if e.names["sni"] {
		const handshake, clientHello = "\x16\x03", "\x01" // of RFC 8446, sections 5.1 and 4
		begins := f.SetName("begins") + suffix
		c.rule("a ClientHello begins", rules.L4Proto.Is(rules.TCP), at(0, 2).Is(handshake), at(5, 1).Is(clientHello), rules.Goto(begins))
		long := at(3, 2).Within(rules.RangeBetween(rules.Raw([]byte{byte(e.whole >> 8), byte(e.whole)}), rules.Raw("\xff\xff")))
		to := c.writer.chain(begins)
		to.rule("a ClientHello begins", rules.Log{Group: NamesGroup, Snaplen: wholeCopy})
		to.rule("a ClientHello of several packets", rules.L4Proto.Is(rules.TCP), long, rules.Dynset{Update: true, Key: connection(f), Set: hello}, rules.Return())
		to.rule(EgressHelloOverflow, rules.L4Proto.Is(rules.TCP), long, rules.Counter{})
	}
	if e.names["http"] {
		requests := "requests" + suffix
		c.rule("maybe HTTP", rules.TCPDport.Is(httpPort), rules.Jump(requests))
		e.copyRequests(c.writer, requests, at)
	}
	if e.names["sni"] {
		rest := append([]rules.Node{rules.L4Proto.Is(rules.TCP)}, e.hasData()...)
		c.rule("the rest of a ClientHello", append(rest, rules.Match{Key: connection(f), Set: hello}, rules.Log{Group: NamesGroup, Snaplen: restCopy})...)
	}
}

// copyRequests copies packets with which an HTTP request begins, of both families.
func (e *egress) copyRequests(w *writer, chain string, at func(offset, length int) rules.Key[rules.Raw]) {
	if w.has(chain) {
		return
	}
	c := w.chain(chain)
	for _, method := range []string{"GET ", "POST", "PUT ", "HEAD", "DELE", "PATC", "OPTI"} {
		c.rule("an HTTP request begins", rules.L4Proto.Is(rules.TCP), at(0, 4).Is(rules.Raw(method)), rules.Log{Group: NamesGroup, Snaplen: httpCopy}, rules.Return())
	}
}

// copyInitials copies the packets with which QUIC begins, of both families, by the type of the
// packet and its version (RFC 9000, section 17.2.2, and RFC 9369, section 3.2).
func (e *egress) copyInitials(w *writer) {
	const chain = "initials"
	if w.has(chain) {
		return
	}
	c := w.chain(chain)
	at := rules.IhRaw
	if !e.inner {
		const header = 8
		at = func(offset, length int) rules.Key[rules.Raw] { return rules.ThRaw(header+offset, length) }
	}
	for _, version := range []struct {
		name string
		head rules.Raw
	}{{"1", "\xc0\x00\x00\x00\x01"}, {"2", "\xd0\x6b\x33\x43\xcf"}} {
		c.rule("an Initial of QUIC version "+version.name, rules.L4Proto.Is(rules.UDP), at(0, 5).Masked(version.head, "\xf0\xff\xff\xff\xff"),
			rules.Log{Group: NamesGroup, Snaplen: wholeCopy}, rules.Return())
	}
}
