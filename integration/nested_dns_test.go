// SPDX-License-Identifier: Apache-2.0

//go:build linux

package integration

import (
	"fmt"
	"net/netip"
	"sync"
	"testing"

	"github.com/weir-mesh/weir/internal/scratch"
)

// dnsWay is a way in which DNS is captured.
type dnsWay struct {
	name, config string
	args         []string
	proxy        scratch.Identity
}

// resolverOf is the resolver that a pod of a family asks.
func resolverOf(f family) netip.Addr { return f.somewhere(53, 0).Addr() }

// dnsWays are every mode that captures DNS, what it captures, and what becomes of an
// interface behind which a container is.
func dnsWays() []dnsWay {
	var ways []dnsWay
	for _, capture := range []string{"servers", "all"} {
		for _, behind := range []string{"exclude", "reroute", ""} {
			way := dnsWay{name: capture, proxy: scratch.Identity{UID: proxyID, GID: proxyID}}
			servers := ""
			if capture == "servers" {
				servers = fmt.Sprintf(", servers: [127.0.0.11, %s, %q]", resolverOf(families[0]), resolverOf(families[1]))
			}
			way.config = fmt.Sprintf("version: 1\nmode: sidecar\nproxy: {uids: [1337], gids: [1337]}\ndns: {capture: %s%s}\n", capture, servers)
			if behind != "" {
				way.name += ", " + behind
				way.config += fmt.Sprintf("interfaces: {%s: [docker0]}\n", behind)
			}
			ways = append(ways, way)
		}
	}
	ztunnel := scratch.Identity{Mark: 0x539}
	return append(ways,
		dnsWay{name: "ambient", args: []string{"ambient", "pod", "apply", "--v6", "--dns"}, proxy: ztunnel},
		dnsWay{name: "ambient, reroute", args: []string{"ambient", "pod", "apply", "--v6", "--dns", "--virt", "docker0"}, proxy: ztunnel})
}

// dnsPod is a pod whose resolvers answer, whose proxy listens for DNS, and in which a
// container stands behind nat.
type dnsPod struct {
	*realPod
	container    *scratch.Namespace
	stopResolver func()
}

// nested are the addresses of the container and of the pod's end of its link.
var nested = map[string]struct{ pod, container netip.Prefix }{
	"IPv4": {netip.MustParsePrefix("172.17.0.1/16"), netip.MustParsePrefix("172.17.0.2/16")},
	"IPv6": {netip.MustParsePrefix("fd00:17::1/64"), netip.MustParsePrefix("fd00:17::2/64")},
}

func newDNSPod(t *testing.T, way dnsWay) dnsPod {
	t.Helper()
	p := dnsPod{realPod: newRealPod(t)}
	var err error
	if p.container, err = scratch.NewNamespace(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.container.Close() })
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(scratch.Veth(p.pod, "docker0", p.container, "eth0"))
	for _, end := range []struct {
		ns   *scratch.Namespace
		link string
	}{{p.pod, "docker0"}, {p.container, "eth0"}} {
		must(end.ns.Sysctl("net/ipv6/conf/"+end.link+"/accept_dad", "0"))
		must(end.ns.Up(end.link))
	}
	must(p.pod.Sysctl("net/ipv4/ip_forward", "1"))
	must(p.pod.Sysctl("net/ipv6/conf/all/forwarding", "1"))
	for _, f := range families {
		n := nested[f.name]
		must(p.pod.AddAddress("docker0", n.pod))
		must(p.container.AddAddress("eth0", n.container))
		must(p.container.AddRoute(scratch.Route{Dst: netip.PrefixFrom(n.pod.Addr(), 0).Masked(), Via: n.pod.Addr()}))
	}
	p.nft("table inet docker {\nchain post {\ntype nat hook postrouting priority 100\nip saddr 172.17.0.0/16 oifname != docker0 masquerade\nip6 saddr fd00:17::/64 oifname != docker0 masquerade\n}\n}\n")
	p.resolve()
	p.serves(p.pod, scratch.Listeners{Name: "proxy", Identity: way.proxy, UDP: []uint16{15053}, TCP: []uint16{15001, 15053}})
	for _, f := range families {
		for _, proto := range []string{"udp", "tcp"} {
			if land := p.asks(p.container, scratch.Probe{ID: "before, " + f.name, Proto: proto, Dst: resolverOf(f), DPort: 53}); land != "resolver:53" {
				t.Fatalf("before, the container over %s %s: %s", proto, f.name, land)
			}
		}
	}
	return p
}

// resolve has the resolvers answer. They are transparent, to answer over IPv6 from
// addresses that only a route makes their own.
func (p *dnsPod) resolve() {
	p.Helper()
	p.stopResolver = p.serves(p.far, scratch.Listeners{Name: "resolver", UDP: []uint16{53}, TCP: []uint16{53}, Transparent: []uint16{53}})
}

// serves has listeners answer until the test ends, or the function is called.
func (p dnsPod) serves(ns *scratch.Namespace, l scratch.Listeners) (stop func()) {
	p.Helper()
	s, err := l.Serve(p.Context(), ns)
	if err != nil {
		p.Fatal(err)
	}
	stop = sync.OnceFunc(func() {
		if err := s.Close(); err != nil {
			p.Error(err)
		}
	})
	p.Cleanup(stop)
	return stop
}

// apply captures as the way says.
func (p dnsPod) apply(way dnsWay) {
	p.Helper()
	if way.config == "" {
		p.run(way.args...).want(p, 0)
		return
	}
	p.feed(way.config, "apply", "--config", "-").want(p, 0)
}

// asks is where a query lands that is answered.
func (p dnsPod) asks(from *scratch.Namespace, query scratch.Probe) string {
	p.Helper()
	fate, err := query.Send(p.Context(), from, answerPatience)
	if err != nil {
		p.Fatal(err)
	}
	return fate.Land
}

// ofProxy is a query that the proxy sends, and ofApp one of an application's.
func ofProxy(way dnsWay, q scratch.Probe) scratch.Probe {
	q.UID, q.GID, q.Mark = way.proxy.UID, way.proxy.GID, way.proxy.Mark
	return q
}

func ofApp(q scratch.Probe) scratch.Probe {
	q.UID, q.GID = appID, appID
	return q
}

// TestDNSOfOthers: a container behind nat in the pod is answered as before, whichever
// way DNS is captured, over UDP and TCP, of both families; the application's queries
// are captured and the proxy's are answered, also where both have one port.
func TestDNSOfOthers(t *testing.T) {
	for _, way := range dnsWays() {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			p := newDNSPod(t, way)
			p.apply(way)
			wants := func(why, want, got string) {
				t.Helper()
				if got != want {
					t.Errorf("%s: it landed at %s, want %s", why, got, want)
				}
			}
			for _, f := range families {
				query := func(proto string, port uint16) scratch.Probe {
					return scratch.Probe{ID: f.name, Proto: proto, Dst: resolverOf(f), DPort: 53, SPort: port}
				}
				why := f.name + ", "
				for range 2 { // a query that is sent again has a connection
					wants(why+"the container", "resolver:53", p.asks(p.container, query("udp", 4001)))
				}
				wants(why+"the application", "proxy:15053", p.asks(p.pod, ofApp(query("udp", 0))))
				wants(why+"the application over TCP", "proxy:15053", p.asks(p.pod, ofApp(query("tcp", 0))))
				wants(why+"the proxy", "resolver:53", p.asks(p.pod, ofProxy(way, query("udp", 0))))
				wants(why+"the proxy over TCP", "resolver:53", p.asks(p.pod, ofProxy(way, query("tcp", 0))))
				for range 2 {
					wants(why+"the application by a port", "proxy:15053", p.asks(p.pod, ofApp(query("udp", 4002))))
					wants(why+"the proxy by the same port", "resolver:53", p.asks(p.pod, ofProxy(way, query("udp", 4002))))
				}
				wants(why+"the proxy by a port of the container's", "resolver:53", p.asks(p.pod, ofProxy(way, query("udp", 4001))))
				wants(why+"the container after it", "resolver:53", p.asks(p.container, query("udp", 4001)))
				p.forgetFlows()
				wants(why+"the application once conntrack forgot all", "proxy:15053", p.asks(p.pod, ofApp(query("udp", 4002))))
				wants(why+"the proxy once conntrack forgot all", "resolver:53", p.asks(p.pod, ofProxy(way, query("udp", 4002))))
			}
		})
	}
}

// TestAnUnaskedAnswerOpensNoWay: a packet from a resolver's port that was not asked for
// does not let the next query from that port out past the proxy.
func TestAnUnaskedAnswerOpensNoWay(t *testing.T) {
	for _, way := range dnsWays() {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			p := newDNSPod(t, way)
			p.apply(way)
			for _, f := range families {
				const port = 4003
				unasked := scratch.Probe{ID: f.name + ", unasked", Proto: "udp", Src: resolverOf(f), Spoof: true, SPort: 53, Dst: f.pod.Addr(), DPort: port}
				p.stopResolver() // to have its port
				// A process that another test is about to start may hold the resolver's sockets yet.
				var fate scratch.Fate
				var err error
				scratch.Eventually(t, "the resolver's port is free", func() bool {
					fate, err = unasked.Send(t.Context(), p.far, answerPatience)
					return err != nil || fate.Land != "error:Address already in use"
				})
				if err != nil || fate.Land != "refused" {
					t.Fatalf("%s: %s, %v, want refused: no host is there", unasked.ID, fate, err)
				}
				p.resolve()
				wire := sniff(t, p.far, "far0")
				query := ofApp(scratch.Probe{ID: f.name, Proto: "udp", Dst: resolverOf(f), DPort: 53, SPort: port})
				fate, err = query.Send(t.Context(), p.pod, silence)
				if err != nil {
					t.Fatal(err)
				}
				if way.config != "" && fate.Land != "proxy:15053" {
					t.Errorf("%s: the query landed at %s", f.name, fate.Land)
				}
				// The proxy's own query shows that the wire was looked at.
				other := ofProxy(way, scratch.Probe{ID: f.name, Proto: "udp", Dst: resolverOf(f), DPort: 53})
				if land := p.asks(p.pod, other); land != "resolver:53" {
					t.Errorf("%s: the proxy's query landed at %s", f.name, land)
				}
				wire.until(t, datagramTo(53))
				if wire.saw(datagram(port, 53)) {
					t.Errorf("%s: a query left past the proxy", f.name)
				}
			}
		})
	}
}

// dockerNAT are the rules by which Docker's resolver answers on 127.0.0.11, from other
// ports, as moby writes them.
const dockerNAT = `table ip dockers
delete table ip dockers
table ip dockers {
	chain out {
		type nat hook output priority -100
		ip daddr 127.0.0.11 udp dport 53 dnat to 127.0.0.11:45413
		ip daddr 127.0.0.11 tcp dport 53 dnat to 127.0.0.11:38181
	}
	chain post {
		type nat hook postrouting priority 100
		ip saddr 127.0.0.11 udp sport 45413 snat to :53
		ip saddr 127.0.0.11 tcp sport 38181 snat to :53
	}
}
`

// TestDockersResolver: a resolver that answers from another port, by nat rules of
// another's before ours or after, answers the proxy, and the application or the proxy
// for it.
func TestDockersResolver(t *testing.T) {
	for _, way := range dnsWays() {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			p := newDNSPod(t, way)
			p.serves(p.pod, scratch.Listeners{Name: "docker", UDP: []uint16{45413}, TCP: []uint16{38181}})
			p.nft(dockerNAT)
			p.apply(way)
			docker := map[string]string{"udp": "docker:45413", "tcp": "docker:38181"}
			for _, order := range []string{"before ours", "after ours"} {
				if order == "after ours" {
					p.nft(dockerNAT) // of equal priorities the chain that was made last comes first
				}
				for _, proto := range []string{"udp", "tcp"} {
					query := scratch.Probe{ID: proto, Proto: proto, Dst: netip.MustParseAddr("127.0.0.11"), DPort: 53}
					want := docker[proto]
					if land := p.asks(p.pod, ofProxy(way, query)); land != want {
						t.Errorf("docker's rules were made %s: the proxy's query over %s landed at %s, want %s", order, proto, land, want)
					}
					captured := order == "before ours" && (way.config != "" || proto == "tcp")
					if captured {
						want = "proxy:15053"
					}
					if land := p.asks(p.pod, ofApp(query)); land != want {
						t.Errorf("docker's rules were made %s: the application's query over %s landed at %s, want %s", order, proto, land, want)
					}
				}
			}
		})
	}
}

// datagram are the ports in the header of a UDP datagram, and datagramTo the
// destination's alone with what probes send: 8 bytes of header, 5 of "probe".
func datagram(from, to uint16) string {
	return string([]byte{byte(from >> 8), byte(from), byte(to >> 8), byte(to)})
}

func datagramTo(to uint16) string {
	return string([]byte{byte(to >> 8), byte(to), 0, 13})
}
