// SPDX-License-Identifier: Apache-2.0

//go:build linux

package integration

import (
	"net/netip"
	"strconv"
	"strings"
	"testing"
)

// TestUntrackedDNS lets dnsmasq answer what applications ask their resolvers, without connection
// tracking: 50 clients at once, over UDP and TCP and in both families, and dig, which asks over TCP
// what was truncated.
func TestUntrackedDNS(t *testing.T) {
	tool(t, "dnsmasq", "dnsmasq-base")
	dig := tool(t, "dig", "bind9-dnsutils")
	queries := howOften(2000, 20000)
	far, far6, stub := netip.MustParseAddr("203.0.113.53"), netip.MustParseAddr("2001:db8:99::35"), netip.MustParseAddr("127.0.0.53")
	resolvers := []netip.Addr{far, far6, stub}
	path, folder := proxyCgroup(t)
	p := newRealPod(t)
	if err := p.far.AddAddress("far0", netip.PrefixFrom(far6, 128)); err != nil {
		t.Fatal(err)
	}
	upstream := serveDNS(t, p.far, 101, far, far6)
	config := strings.Replace(untrackedConfig, "mark: 0x53d/0xfff", "mark: 0x53d/0xfff, cgroups: ["+path+"], assignMark: true", 1)
	p.untracked(config + "dns: {capture: servers, servers: [203.0.113.53, \"2001:db8:99::35\", 127.0.0.53]}\n")
	// The first resolver of each family is answered at 127.0.0.1 and ::1, the third one of all at its own.
	p.serveIn(p.dnsmasqOf(redirectProxy, far, "127.0.53.3"), folder, 15053)
	p.askAll(queries, resolvers)
	asked := queries
	for i, a := range resolvers {
		for j, args := range [][]string{{}, {"+tcp"}, {"-q", "truncated"}} {
			q := question{number: i*10 + j, typ: typeA}
			if j == 2 {
				q.number += firstTruncated
				args = nil
				asked++ // over UDP and over TCP
			}
			asked++
			want, _ := netip.AddrFromSlice(q.address())
			words := append([]string{"@" + a.String(), "q" + strconv.Itoa(q.number) + ".test", "A", "+short", "+tries=1", "+time=10"}, args...)
			if got := strings.TrimSpace(p.must("", dig, words...)); got != want.String() {
				t.Errorf("dig %s: %q, want %s", strings.Join(words, " "), got, want)
			}
		}
	}
	if got, past := upstream.queries.Load(), upstream.past.Load(); got != int64(asked) || past > 0 {
		t.Errorf("the resolver got %d queries, %d of them past the proxy (want %d)", got, past, asked)
	}
	p.untrackedEntries(t)
}
