// SPDX-License-Identifier: Apache-2.0

//go:build linux

package integration

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weir-mesh/weir/internal/scratch"
	"golang.org/x/sys/unix"
)

// Of DNS messages (RFC 1035, RFC 6891), as much as there is in these.
const (
	dnsHeader   = 12
	dnsResponse = 0x8000
	dnsPointer  = 0xc00c // to the name of the question
	typeA       = 1
	typeAAAA    = 28
)

// question is a query for the address of a name that only it has.
type question struct {
	id     uint16
	number int
	typ    uint16
}

// name is q7.test for the number 7, as it stands in a message.
func (q question) name() []byte {
	label := "q" + strconv.Itoa(q.number)
	return append(append([]byte{byte(len(label))}, label...), "\x04test\x00"...)
}

// address is the right answer.
func (q question) address() []byte {
	n := uint32(q.number)
	if q.typ == typeAAAA {
		return binary.BigEndian.AppendUint32(netip.MustParseAddr("2001:db8:1::").AsSlice()[:12], n)
	}
	return binary.BigEndian.AppendUint32(nil, 10<<24|n)
}

func (q question) asked() []byte {
	return binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(q.name(), q.typ), 1)
}

func (q question) query() []byte {
	return append([]byte{byte(q.id >> 8), byte(q.id), 1, 0, 0, 1, 0, 0, 0, 0, 0, 0}, q.asked()...)
}

func (q question) response() []byte {
	b := append([]byte{byte(q.id >> 8), byte(q.id), 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0}, q.asked()...)
	b = binary.BigEndian.AppendUint16(b, dnsPointer)
	b = binary.BigEndian.AppendUint16(b, q.typ)
	b = append(b, 0, 1, 0, 0, 0, 60) // class, time to live
	data := q.address()
	return append(append(b, 0, byte(len(data))), data...)
}

// firstTruncated is the number of the first name whose answers are too long for a datagram.
const firstTruncated = 1 << 23

// truncated is the answer that has no room.
func (q question) truncated() []byte {
	return append([]byte{byte(q.id >> 8), byte(q.id), 0x83, 0x80, 0, 1, 0, 0, 0, 0, 0, 0}, q.asked()...)
}

// parseQuestion reads a query; more is what follows the question.
func parseQuestion(b []byte) (q question, more []byte, err error) {
	if len(b) < dnsHeader+1 || len(b) < dnsHeader+int(b[dnsHeader])+11 {
		return q, nil, fmt.Errorf("%x is too short", b)
	}
	q.id = binary.BigEndian.Uint16(b)
	end := dnsHeader + 1 + int(b[dnsHeader])
	if q.number, err = strconv.Atoi(strings.TrimPrefix(string(b[dnsHeader+1:end]), "q")); err != nil {
		return q, nil, err
	}
	end += len("\x04test\x00")
	q.typ = binary.BigEndian.Uint16(b[end:])
	return q, b[end+4:], nil
}

// right reports whether a message is the answer.
func (q question) right(b []byte) bool {
	want := q.response()
	return len(b) >= len(want) && binary.BigEndian.Uint16(b) == q.id && binary.BigEndian.Uint16(b[2:])&(dnsResponse|0xf) == dnsResponse &&
		bytes.Equal(b[dnsHeader:dnsHeader+len(q.asked())], q.asked()) && bytes.Contains(b[dnsHeader+len(q.asked()):], q.address())
}

// proxyMarkOption is what dnsmasq adds to each query that it forwards, as
// --add-cpe-id says. A query without it came past the proxy.
const proxyMarkOption = "by-the-proxy"

// resolver is a name server that knows every name.
type resolver struct {
	queries, past atomic.Int64
	callers       sync.Map // of queries over UDP: their netip.AddrPort
}

// serveDNS answers on port 53 of those addresses until the test ends.
func serveDNS(t testing.TB, ns *scratch.Namespace, id uint32, at ...netip.Addr) *resolver {
	t.Helper()
	r := &resolver{}
	var running sync.WaitGroup
	t.Cleanup(running.Wait) // runs after those below
	for _, a := range at {
		address := netip.AddrPortFrom(a, 53).String()
		ln := listenAs(t, ns, id, id, address)
		var conn net.PacketConn
		err := ns.DoAs(id, id, func() (err error) {
			conn, err = net.ListenPacket("udp", address)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		running.Go(func() { r.overUDP(conn.(*net.UDPConn)) })
		running.Go(func() {
			for {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				running.Go(func() { r.overTCP(c) })
			}
		})
		t.Cleanup(func() {
			ln.Close()
			conn.Close()
		})
	}
	return r
}

func (r *resolver) answer(query []byte) []byte {
	q, more, err := parseQuestion(query)
	if err != nil {
		return nil
	}
	r.queries.Add(1)
	if !bytes.Contains(more, []byte(proxyMarkOption)) {
		r.past.Add(1)
	}
	return q.response()
}

func (r *resolver) overUDP(conn *net.UDPConn) {
	b := make([]byte, 1500)
	for {
		n, from, err := conn.ReadFromUDPAddrPort(b)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if answer := r.answer(b[:n]); answer != nil {
			if q, _, err := parseQuestion(b[:n]); err == nil && q.number >= firstTruncated {
				answer = q.truncated()
			}
			r.callers.Store(netip.AddrPortFrom(from.Addr().Unmap(), from.Port()), true)
			_, _ = conn.WriteToUDPAddrPort(answer, from)
		}
	}
}

func (r *resolver) overTCP(conn net.Conn) {
	defer conn.Close()
	for {
		query, err := readFramed(conn)
		if err != nil {
			return
		}
		if _, err := conn.Write(framed(r.answer(query))); err != nil {
			return
		}
	}
}

func framed(message []byte) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(message))), message...)
}

func readFramed(conn net.Conn) ([]byte, error) {
	var length [2]byte
	if _, err := io.ReadFull(conn, length[:]); err != nil {
		return nil, err
	}
	message := make([]byte, binary.BigEndian.Uint16(length[:]))
	_, err := io.ReadFull(conn, message)
	return message, err
}

const queryTimeout = 30 * time.Second // nothing is asked twice

// overUDP asks from the calling thread, and returns where it asked from. The
// answer must come from the address that was asked.
func (q question) overUDP(to netip.AddrPort) (from netip.AddrPort, err error) {
	network, any := "udp4", netip.IPv4Unspecified()
	if to.Addr().Is6() {
		network, any = "udp6", netip.IPv6Unspecified()
	}
	conn, err := net.ListenUDP(network, net.UDPAddrFromAddrPort(netip.AddrPortFrom(any, 0)))
	if err != nil {
		return from, err
	}
	defer conn.Close()
	from = conn.LocalAddr().(*net.UDPAddr).AddrPort()
	if _, err := conn.WriteToUDPAddrPort(q.query(), to); err != nil {
		return from, err
	}
	if err := conn.SetReadDeadline(time.Now().Add(queryTimeout)); err != nil {
		return from, err
	}
	b := make([]byte, 1500)
	n, by, err := conn.ReadFromUDPAddrPort(b)
	if err != nil {
		return from, err
	}
	if by = netip.AddrPortFrom(by.Addr().Unmap(), by.Port()); by != to {
		return from, fmt.Errorf("answered by %s", by)
	}
	if !q.right(b[:n]) {
		return from, fmt.Errorf("answered %x", b[:n])
	}
	return from, nil
}

func (q question) overTCP(to netip.AddrPort) error {
	conn, err := dialHere(netip.Addr{}, to)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(queryTimeout)); err != nil {
		return err
	}
	if _, err := conn.Write(framed(q.query())); err != nil {
		return err
	}
	b, err := readFramed(conn)
	if err != nil {
		return err
	}
	if !q.right(b) {
		return fmt.Errorf("answered %x", b)
	}
	return nil
}

// dnsmasq starts dnsmasq in the pod, behind the capture port, with one resolver
// to forward to.
func (p *realPod) dnsmasq(c container, upstream netip.Addr) *daemon {
	p.Helper()
	return p.serve(p.dnsmasqOf(c, upstream), 15053)
}

// dnsmasqOf is the container with dnsmasq, on more addresses where there are some.
func (p *realPod) dnsmasqOf(c container, upstream netip.Addr, more ...string) container {
	p.Helper()
	c.Args = []string{tool(p, "dnsmasq", "dnsmasq-base"), "--keep-in-foreground", "--conf-file=/dev/null", "--pid-file", "--log-facility=-",
		"--no-resolv", "--no-hosts", "--cache-size=0", "--dns-forward-max=1000", "--add-cpe-id=" + proxyMarkOption,
		"--port=15053", "--listen-address=127.0.0.1", "--listen-address=::1", "--bind-interfaces", "--server=" + upstream.String()}
	for _, a := range more {
		c.Args = append(c.Args, "--listen-address="+a)
	}
	return c
}

// TestDNSByDnsmasq lets dnsmasq answer what applications ask their resolvers:
// 20,000 queries of 50 clients at once, over UDP and TCP, in both families.
func TestDNSByDnsmasq(t *testing.T) {
	tool(t, "dnsmasq", "dnsmasq-base")
	far, far6, stub := netip.MustParseAddr("203.0.113.53"), netip.MustParseAddr("2001:db8:99::35"), netip.MustParseAddr("127.0.0.53")
	nobody := []netip.Addr{netip.MustParseAddr("203.0.113.99"), netip.MustParseAddr("2001:db8:99::63"), netip.MustParseAddr("127.0.0.99")}
	resolvers := []netip.Addr{far, far6, stub}
	for _, tt := range []struct {
		why      string
		args     []string
		ask      []netip.Addr
		upstream netip.Addr
		queries  int
	}{
		{"the resolvers of resolv.conf, forwarded over IPv4", []string{"--redirect-dns"}, resolvers, far, 8000},
		{"anyone, forwarded over IPv6", []string{"--redirect-dns", "--capture-all-dns"}, append(nobody, resolvers...), far6, 8000},
		{"the resolvers of resolv.conf, forwarded to the one on loopback", []string{"--redirect-dns"}, resolvers, stub, 4000},
	} {
		t.Run(tt.why, func(t *testing.T) {
			p := newRealPod(t)
			if err := p.far.AddAddress("far0", netip.PrefixFrom(far6, 128)); err != nil {
				t.Fatal(err)
			}
			where, at := p.far, []netip.Addr{far, far6}
			if tt.upstream == stub {
				where, at = p.pod, []netip.Addr{stub}
			}
			upstream := serveDNS(t, where, 101, at...)
			c := initContainer(append([]string{"istio-iptables"}, injected("REDIRECT", tt.args...)...)...)
			for _, a := range resolvers {
				c.Resolvers += "nameserver " + a.String() + "\n"
			}
			p.contain(c).want(t, 0)
			p.dnsmasq(redirectProxy, tt.upstream)
			callers := p.askAll(tt.queries, tt.ask)
			if got, past := upstream.queries.Load(), upstream.past.Load(); got != int64(tt.queries) || past > 0 {
				t.Errorf("the resolver got %d queries, %d of them past the proxy (want %d)", got, past, tt.queries)
			}
			p.checkZones(callers, upstream)
		})
	}
}

const dnsClients = 50

// askAll asks, one query in four over TCP and the others over UDP, and returns
// the ports that those came from.
func (p *realPod) askAll(queries int, resolvers []netip.Addr) *sync.Map {
	p.Helper()
	var next, failed atomic.Int64
	var group sync.WaitGroup
	callers := &sync.Map{}
	start := time.Now()
	for range dnsClients {
		group.Go(func() {
			err := p.pod.DoAs(appID, appID, func() error {
				for i := int(next.Add(1)) - 1; i < queries; i = int(next.Add(1)) - 1 {
					q := question{id: uint16(i*7919 + 1), number: i, typ: typeA}
					if i%3 == 0 {
						q.typ = typeAAAA
					}
					to := netip.AddrPortFrom(resolvers[i%len(resolvers)], 53)
					var err error
					if i/len(resolvers)%4 == 3 {
						err = q.overTCP(to)
					} else {
						var from netip.AddrPort
						from, err = q.overUDP(to)
						callers.Store(from.Port(), true)
					}
					if err != nil && failed.Add(1) <= 5 {
						p.Errorf("query %d to %s: %v", i, to, err)
					}
				}
				return nil
			})
			if err != nil {
				p.Error(err)
			}
		})
	}
	group.Wait()
	took := time.Since(start)
	p.Logf("%d queries in %s, %.0f a second, %d failed", queries, took.Round(time.Millisecond), float64(queries)/took.Seconds(), failed.Load())
	return callers
}

// checkZones checks that conntrack knows the application's queries in zone 2 and
// the proxy's in zone 1, and DNS nowhere else.
func (p *realPod) checkZones(callers *sync.Map, upstream *resolver) {
	p.Helper()
	flows, err := p.pod.Conntrack()
	if err != nil {
		p.Fatal(err)
	}
	zones := map[uint16]int{}
	wrong := 0
	for _, f := range flows {
		if f.Proto != unix.IPPROTO_UDP {
			continue
		}
		zones[f.Zone]++
		_, application := callers.Load(f.Src.Port())
		_, proxy := upstream.callers.Load(f.Src)
		ok := f.Dst.Port() == 53 && (f.Zone == 2 && application || f.Zone == 1 && proxy)
		if !ok {
			if wrong++; wrong <= 5 {
				p.Errorf("a flow of DNS in a wrong zone: %+v", f)
			}
		}
	}
	p.Logf("flows of DNS over UDP by zone: %v, %d wrong", zones, wrong)
	if zones[1] == 0 || zones[2] == 0 {
		p.Errorf("a zone is empty: %v", zones)
	}
}
