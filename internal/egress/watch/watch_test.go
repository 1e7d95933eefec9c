// SPDX-License-Identifier: Apache-2.0

//go:build linux

package watch

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/weir-mesh/weir/capture"
	"github.com/weir-mesh/weir/internal/egress/names"
	"github.com/weir-mesh/weir/internal/scratch"
	"github.com/weir-mesh/weir/modes"
	"github.com/weir-mesh/weir/netns"
	"github.com/weir-mesh/weir/rules"
)

const payload = 4 << 20

// world is a pod and the host that it calls.
type world struct {
	pod, away *scratch.Namespace
	ns        *netns.Namespace
}

// newWorld has the host more addresses than one, if they are given, and nobody listen there; else it
// listens.
func newWorld(t *testing.T, more ...string) world {
	t.Helper()
	w := newWorldFor(t, more...)
	if len(more) == 0 {
		w.listen(t, "203.0.113.2:443", "[2001:db8::2]:443")
	}
	return w
}

func newWorldFor(t testing.TB, more ...string) world {
	t.Helper()
	w := world{pod: scratch.ForTest(t), away: scratch.ForTest(t)}
	scratch.Must(t, scratch.Veth(w.pod, "eth0", w.away, "eth0"))
	for ns, addresses := range map[*scratch.Namespace][]string{w.pod: {"203.0.113.1/24", "2001:db8::1/64"}, w.away: append(more, "203.0.113.2/24", "2001:db8::2/64")} {
		scratch.Must(t, ns.Up("lo"), ns.Up("eth0"))
		for _, a := range addresses {
			scratch.Must(t, ns.AddAddress("eth0", netip.MustParsePrefix(a)))
		}
	}
	ns, err := netns.Open(w.pod.Path())
	scratch.Must(t, err)
	t.Cleanup(ns.Close)
	w.ns = ns
	return w
}

func (w world) awayNamespace(t *testing.T) *netns.Namespace {
	t.Helper()
	ns, err := netns.Open(w.away.Path())
	scratch.Must(t, err)
	t.Cleanup(ns.Close)
	return ns
}

// listen has the host serve TLS.
func (w world) listen(t *testing.T, addresses ...string) {
	t.Helper()
	certificate := selfSigned(t)
	for _, address := range addresses {
		var ln net.Listener
		scratch.Eventually(t, "an address to listen on", func() bool { // IPv6 looks for twins first
			return w.away.Do(func() (err error) {
				ln, err = tls.Listen("tcp", address, &tls.Config{Certificates: []tls.Certificate{certificate}})
				return err
			}) == nil
		})
		t.Cleanup(func() { _ = ln.Close() })
		go serve(ln)
	}
}

// serve answers every byte that it is sent with the payload.
func serve(ln net.Listener) {
	for {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			for one := make([]byte, 1); ; {
				if _, err := io.ReadFull(conn, one); err != nil {
					return
				}
				if _, err := conn.Write(make([]byte, payload)); err != nil {
					return
				}
			}
		}()
	}
}

func selfSigned(t testing.TB) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	scratch.Must(t, err)
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	scratch.Must(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func (w world) dial(t *testing.T, address, name string) *tls.Conn {
	t.Helper()
	var conn net.Conn
	scratch.Must(t, w.pod.Do(func() (err error) {
		conn, err = net.DialTimeout("tcp", address, 10*time.Second)
		return err
	}))
	t.Cleanup(func() { _ = conn.Close() })
	c := tls.Client(conn, &tls.Config{ServerName: name, InsecureSkipVerify: true})
	scratch.Must(t, c.Handshake())
	return c
}

func fetch(t *testing.T, c *tls.Conn) {
	t.Helper()
	_, err := c.Write([]byte{1})
	scratch.Must(t, err)
	_, err = io.CopyN(io.Discard, c, payload)
	scratch.Must(t, err)
}

// TestWatch counts what a pod calls by name, and what it opened before; it leaves nothing
// behind, and nothing is tracked for it.
func TestWatch(t *testing.T) {
	w := newWorld(t)
	old := w.dial(t, "203.0.113.2:443", "before.example")
	config := modes.Config{Mode: modes.ModeEgress, Watch: modes.Watch{Resolvers: []string{"203.0.113.2"}}}
	watched, err := Start(t.Context(), w.ns, config, capture.Options{}, nil)
	scratch.Must(t, err)
	closed := false
	t.Cleanup(func() {
		if !closed {
			_ = watched.Close(context.Background())
		}
	})
	if _, err := Start(t.Context(), w.ns, config, capture.Options{}, nil); err == nil || !strings.Contains(err.Error(), errGroupTaken.Error()) {
		t.Errorf("a second watch: %v", err)
	}
	fetch(t, old)
	report := w.await(t, watched, func(rows []Row) bool { return len(rows) > 0 && rows[0].Received > payload })
	if r := report.Rows[0]; r.Host != "203.0.113.2" || r.By != byAddress || r.Conns != 0 || !near(r.Received) {
		t.Errorf("what was open before: %+v", r)
	}

	fetch(t, w.dial(t, "[2001:db8::2]:443", "six.example"))
	fetch(t, w.dial(t, "203.0.113.2:443", "four.example"))
	report = w.await(t, watched, func(rows []Row) bool {
		return slices.ContainsFunc(rows, func(r Row) bool { return r.Host == "six.example" && r.Received > payload }) &&
			slices.ContainsFunc(rows, func(r Row) bool { return r.Host == "four.example" && r.Received > 2*payload })
	})
	for _, r := range report.Rows {
		if r.By != "sni" || r.Port != 443 || r.Conns != 1 || r.Owner != "0" || r.Host == "six.example" && !near(r.Received) {
			t.Errorf("by name: %+v", r)
		}
	}
	if report.Lost+report.Overflow+report.Hellos+report.Incomplete != 0 || len(report.Drift) > 0 || len(report.Rows) != 2 {
		t.Errorf("the report: %+v", report)
	}
	open := w.dial(t, "[2001:db8::2]:443", "other.example") // a second name of the address
	fetch(t, open)
	fetch(t, open)
	scratch.Must(t, open.Close()) // its bytes are told as it ends
	report = w.await(t, watched, func(rows []Row) bool {
		return slices.ContainsFunc(rows, func(r Row) bool { return r.Host == "other.example" && r.Received > 2*payload }) &&
			slices.ContainsFunc(rows, func(r Row) bool { return r.Host == "six.example" && r.Received > payload })
	})
	for _, r := range report.Rows {
		want := map[string]uint64{"other.example": 2 * payload, "six.example": payload, "2001:db8::2 (2 names)": 0}[r.Host]
		if r.Host != "four.example" && (r.Received < want || r.Received > want+want/100+payload/30 || r.Owner != "0") {
			t.Errorf("a shared address: %+v", r)
		}
	}
	if len(report.Rows) != 4 {
		t.Errorf("a shared address: %+v", report.Rows)
	}
	if n := w.tracked(t); n != 0 {
		t.Errorf("%d connections are tracked", n)
	}
	closed = true
	scratch.Must(t, watched.Close(t.Context()))
	c, err := capture.New(w.ns, config, capture.Options{})
	scratch.Must(t, err)
	defer c.Close()
	if live, _, err := c.Live(t.Context()); err != nil || live.State.Table != nil {
		t.Errorf("the table stays: %v", err)
	}
}

// near reports whether bytes of IP are those of the payload and its headers.
func near(received uint64) bool { return received > payload && received < payload+payload/20 }

func (w world) await(t *testing.T, watched *Watch, is func([]Row) bool) (r Report) {
	t.Helper()
	scratch.Eventually(t, "the counts", func() bool {
		var err error
		r, err = watched.Report(t.Context())
		scratch.Must(t, err)
		return is(r.Rows)
	})
	return r
}

// tracked is how many connections the pod's kernel tracks.
func (w world) tracked(t *testing.T) uint64 {
	t.Helper()
	var text []byte
	err := w.pod.Do(func() (err error) {
		text, err = os.ReadFile("/proc/thread-self/net/stat/nf_conntrack")
		return err
	})
	if os.IsNotExist(err) {
		return 0
	}
	scratch.Must(t, err)
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	n, err := strconv.ParseUint(strings.Fields(lines[len(lines)-1])[0], 16, 32)
	scratch.Must(t, err)
	return n
}

// TestContradictions: what a client says of an address is held against what DNS says.
func TestContradictions(t *testing.T) {
	b := newBook()
	at := netip.MustParseAddr("203.0.113.2")
	if b.contradicts("a.example", at) {
		t.Error("without any answer nothing is contradicted")
	}
	b.answers = true
	if !b.contradicts("a.example", at) {
		t.Error("no answer gave the address to any name")
	}
	b.answered[at] = map[string]bool{"b.example": true}
	if b.contradicts("a.example", at) {
		t.Error("a shared address, and a name that was asked for before")
	}
	b.given["a.example"] = map[netip.Addr]bool{netip.MustParseAddr("203.0.113.3"): true}
	if !b.contradicts("a.example", at) {
		t.Error("the name has another address")
	}
}

// TestRates: an address that gets another name does not move all of its bytes anew.
func TestRates(t *testing.T) {
	row := func(n int, total uint64) []Row {
		return []Row{{Host: fmt.Sprintf("203.0.113.2 (%d names)", n), Names: make([]string, n), Received: total}}
	}
	now := row(3, 1_000_100)
	rates(now, row(2, 1_000_000), time.Second)
	if now[0].Now != 800 || now[0].Name() != "203.0.113.2" {
		t.Errorf("%s moves %d bits a second, want 800", now[0].Name(), now[0].Now)
	}
}

// TestBoundedNames: names are the client's to make up.
func TestBoundedNames(t *testing.T) {
	b := newBook()
	for i := range 3 * maxNames {
		b.known(strings.Repeat("x", i%200) + "." + big.NewInt(int64(i)).String())
	}
	if len(b.names) != maxNames || b.known("late.example") != otherName {
		t.Errorf("%d names are remembered", len(b.names))
	}
	of := func(port uint16, name string) string {
		return b.claim(names.Claim{Tuple: names.Tuple{Proto: uint8(rules.TCP), Dst: netip.AddrPortFrom(netip.MustParseAddr("203.0.113.2"), port)}, Name: name, By: names.BySNI})
	}
	if a, b := of(1, "late.example"), of(1, "."+big.NewInt(0).String()); a != otherName || b != ".0" {
		t.Errorf("bytes count under %q and %q", a, b)
	}
	for i := range 2 * maxClaims {
		of(uint16(i%65535+1), "."+big.NewInt(int64(200*(i/65535))).String()) // names are x*(i%200).i
	}
	if b.claims > maxClaims || b.others < maxClaims {
		t.Errorf("%d claims are remembered, %d had no room", b.claims, b.others)
	}
}
