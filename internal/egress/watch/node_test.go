// SPDX-License-Identifier: Apache-2.0

//go:build linux

package watch

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/weir-mesh/weir/capture"
	"github.com/weir-mesh/weir/internal/scratch"
	"github.com/weir-mesh/weir/modes"
	"github.com/weir-mesh/weir/netns"
	"golang.org/x/net/dns/dnsmessage"
)

// newNode is a node that forwards what its pods call: the world's pod is the node.
func newNode(t *testing.T, pods ...*scratch.Namespace) world {
	t.Helper()
	w := world{pod: scratch.ForTest(t), away: scratch.ForTest(t)}
	configure := func(ns *scratch.Namespace, link, address, gateway string) {
		scratch.Must(t, ns.Up("lo"), ns.Up(link), ns.AddAddress(link, netip.MustParsePrefix(address)))
		if gateway != "" {
			via := netip.MustParseAddr(gateway)
			every := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
			if via.Is6() {
				every = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
			}
			scratch.Must(t, ns.AddRoute(scratch.Route{Dst: every, Link: link, Via: via}))
		}
	}
	scratch.Must(t, scratch.Veth(w.pod, "up0", w.away, "eth0"), w.pod.Sysctl("net/ipv4/ip_forward", "1"), w.pod.Sysctl("net/ipv6/conf/all/forwarding", "1"))
	configure(w.away, "eth0", "203.0.113.2/24", "203.0.113.1")
	configure(w.away, "eth0", "2001:db8::2/64", "2001:db8::1")
	configure(w.pod, "up0", "203.0.113.1/24", "")
	configure(w.pod, "up0", "2001:db8::1/64", "")
	for i, pod := range pods {
		link, at := fmt.Sprintf("pod%d", i), fmt.Sprintf("192.0.2.%d", 2*i)
		scratch.Must(t, scratch.Veth(w.pod, link, pod, "eth0"))
		configure(w.pod, link, at+"/31", "")
		configure(pod, "eth0", fmt.Sprintf("192.0.2.%d/31", 2*i+1), at)
		configure(w.pod, link, fmt.Sprintf("2001:db8:%d::1/64", i+1), "")
		configure(pod, "eth0", fmt.Sprintf("2001:db8:%d::2/64", i+1), fmt.Sprintf("2001:db8:%d::1", i+1))
	}
	ns, err := netns.Open(w.pod.Path())
	scratch.Must(t, err)
	t.Cleanup(ns.Close)
	w.ns = ns
	w.listen(t, "203.0.113.2:443", "[2001:db8::2]:443")
	return w
}

func podAt(t *testing.T, name string, ns *scratch.Namespace) Pod {
	t.Helper()
	inode, is := netns.InodeAt(ns.Path())
	if !is {
		t.Fatalf("%s is not a namespace", ns.Path())
	}
	return Pod{Name: name, Netns: ns.Path(), Inode: inode}
}

// answerDNS has the host answer queries.
func (w world) answerDNS(t *testing.T, address string) {
	t.Helper()
	var conn net.PacketConn
	scratch.Must(t, w.away.Do(func() (err error) {
		conn, err = net.ListenPacket("udp", address)
		return err
	}))
	t.Cleanup(func() { _ = conn.Close() })
	go func() {
		for b := make([]byte, 1<<16); ; {
			n, from, err := conn.ReadFrom(b)
			if err != nil {
				return
			}
			if answer, err := answered(b[:n]); err == nil {
				_, _ = conn.WriteTo(answer, from)
			}
		}
	}()
}

// ask waits for the answer of a resolver.
func ask(resolver, name string) error {
	query := dnsmessage.Message{Header: dnsmessage.Header{ID: 7}, Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}}}
	text, err := query.Pack()
	if err != nil {
		return err
	}
	conn, err := net.Dial("udp", resolver)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := conn.Write(text); err != nil {
		return err
	}
	_ = conn.SetReadDeadline(time.Now().Add(30 * time.Second))
	_, err = conn.Read(make([]byte, 1<<12))
	return err
}

// TestNode counts what each pod of a node calls, by name and on shared addresses: pods that were
// there with their connections, and one that comes later. A pod that goes keeps what it counted.
func TestNode(t *testing.T) {
	a, b, none := scratch.ForTest(t), scratch.ForTest(t), scratch.ForTest(t)
	w := newNode(t, a, b, none)
	from := func(pod *scratch.Namespace) world { return world{pod: pod, away: w.away} }
	here := []Pod{podAt(t, "shop/a", a), podAt(t, "node itself", w.pod), {Name: "gone", Netns: "/nowhere", Inode: 1}}
	old := from(a).dial(t, "203.0.113.2:443", "before.example")

	config := modes.Config{Mode: modes.ModeEgress, Watch: modes.Watch{By: modes.EgressByPod}}
	watched, err := Start(t.Context(), w.ns, config, capture.Options{}, func(context.Context) ([]Pod, error) { return here, errors.New("one source is broken") })
	scratch.Must(t, err)
	t.Cleanup(func() { scratch.Must(t, watched.Close(context.Background())) })
	is := func(r Row, owner, host string, payloads uint64) bool {
		return r.Owner == owner && r.Host == host && r.Received > payloads*payload && r.Received < payloads*payload+payload/20
	}
	has := func(owner, host string, payloads uint64) func([]Row) bool {
		return func(rows []Row) bool {
			return slices.ContainsFunc(rows, func(r Row) bool { return is(r, owner, host, payloads) })
		}
	}
	fetch(t, old)
	report := w.await(t, watched, has("shop/a", "203.0.113.2", 1))
	if report.Pods != 1 || len(report.Wrong) != 2 {
		t.Errorf("%d pods, and %q", report.Pods, report.Wrong)
	}

	here = append(here, podAt(t, "shop/b", b))
	w.await(t, watched, func([]Row) bool { return len(watched.pods.here) == 2 })
	fetch(t, from(b).dial(t, "203.0.113.2:443", "one.example"))
	fetch(t, from(none).dial(t, "203.0.113.2:443", "uncounted.example"))
	w.await(t, watched, has("shop/b", "one.example", 1))
	two := from(b).dial(t, "203.0.113.2:443", "two.example")
	fetch(t, two)
	fetch(t, two)
	scratch.Must(t, two.Close())
	report = w.await(t, watched, func(rows []Row) bool {
		return has("shop/b", "one.example", 1)(rows) && has("shop/b", "two.example", 2)(rows)
	})
	for _, r := range report.Rows {
		if r.Host == "uncounted.example" || r.By != "sni" && len(r.Names) != 2 || r.Owner != "shop/a" && r.Owner != "shop/b" {
			t.Errorf("a row of none: %+v", r)
		}
	}

	fetch(t, from(b).dial(t, "[2001:db8::2]:443", "six.example"))
	w.await(t, watched, has("shop/b", "six.example", 1))

	w.answerDNS(t, "203.0.113.2:53")
	scratch.Must(t, b.Do(func() error { return ask("203.0.113.2:53", "asked.example.") }))
	w.listen(t, "203.0.113.2:8443")
	fetch(t, from(b).dial(t, "203.0.113.2:8443", "203.0.113.2")) // a ClientHello does not name an address
	report = w.await(t, watched, has("shop/b", "asked.example", 1))
	if by := rowOf(report, "asked.example").By; by != byDNS {
		t.Errorf("a name that a pod asked for is known by %s", by)
	}

	here = here[:1]
	w.await(t, watched, func([]Row) bool { return len(watched.pods.here) == 1 })
	fetch(t, from(a).dial(t, "203.0.113.2:443", "one.example"))
	w.await(t, watched, func(rows []Row) bool {
		return has("shop/b", "two.example", 2)(rows) && has("shop/a", "one.example", 1)(rows)
	})
	if n := w.tracked(t); n != 0 {
		t.Errorf("%d connections are tracked", n)
	}
}
