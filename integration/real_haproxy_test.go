// SPDX-License-Identifier: Apache-2.0

//go:build linux

package integration

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// haproxyConfig is a sidecar: a section without servers goes on to the original
// destination. HAProxy finds it by itself after TPROXY and, in IPv4, after
// REDIRECT; IPv6's own option for that it does not ask, so there the caller names
// the destination.
func haproxyConfig(transparent bool) string {
	var b strings.Builder
	b.WriteString(`
global
	maxconn 4000
defaults
	mode http
	timeout connect 5s
	timeout client 20s
	timeout server 20s
	option forwardfor
	option transparent
`)
	const told = "http-request set-dst hdr(" + headerAddress + ")\n\thttp-request set-dst-port hdr_val(" + headerPort + ")"
	option := func(set bool, text string) string {
		if set {
			return text
		}
		return ""
	}
	for _, f := range families {
		six, host := f.pass.Is6(), f.pass.String()
		if six {
			host = "[" + host + "]"
		}
		section := func(name, any string, port int, transparent bool, more string) {
			fmt.Fprintf(&b, "listen %s%s\n\tbind %s:%d%s%s\n\t%s\n\thttp-request set-header %s %s\n\thttp-request set-header %s \"%%[dst]:%%[dst_port]\"\n\t%s\n",
				name, f.name, any, port, option(six, " v6only"), option(transparent, " transparent"),
				option(six && !transparent, told), headerBy, name, headerTo, more)
		}
		any := netip.PrefixFrom(f.pass, 0).Masked().Addr().String()
		section("inbound", any, 15006, transparent, "source "+host)
		section("outbound", any, 15001, false, "")
	}
	return b.String()
}

// haproxy starts HAProxy in the pod.
func (p *realPod) haproxy(c container, transparent bool) *daemon {
	p.Helper()
	c.Args = []string{tool(p, "haproxy", "haproxy"), "-db", "-f", write(p, "haproxy.cfg", haproxyConfig(transparent))}
	return p.serve(c, 15001, 15006)
}

var (
	// redirectProxy is how istio runs a proxy that gets its connections by
	// REDIRECT, and tproxyProxy one that gets them by TPROXY.
	redirectProxy = container{UID: proxyID, GID: proxyID}
	tproxyProxy   = container{UID: 0, GID: proxyID, Caps: []int{unix.CAP_NET_ADMIN}}
)

// TestHAProxyIsASidecar lets HAProxy be the sidecar's proxy, by each kind of
// interception, with 10,000 requests each way in both families together; in a soak
// in each.
func TestHAProxyIsASidecar(t *testing.T) {
	tool(t, "haproxy", "haproxy")
	requests := howOften(5000, 10000)
	for _, tt := range []struct {
		mode      string
		container container
	}{{"REDIRECT", redirectProxy}, {"TPROXY", tproxyProxy}} {
		t.Run(tt.mode, func(t *testing.T) {
			p := newRealPod(t)
			p.istioInit(injected(tt.mode)...)
			world := serveWeb(t, p.far, 0, worldPorts...)
			application := serveWeb(t, p.pod, appID, appPort)
			p.haproxy(tt.container, tt.mode == "TPROXY")
			for _, f := range families {
				t.Run("inbound "+f.name, func(t *testing.T) {
					client := func(i int) netip.Addr { return f.clients[i%len(f.clients)] }
					to := netip.AddrPortFrom(f.pod.Addr(), appPort)
					load{in: p.far, requests: requests, from: client,
						to: func(int) netip.AddrPort { return to },
						right: func(i int, s seen) bool {
							return s.By == "inbound" && s.Peer.Addr() == f.pass && s.For == client(i).String() && s.To == named(to) && s.Asked == to
						},
					}.run(t)
					application.only(t, requests)
				})
				t.Run("outbound "+f.name, func(t *testing.T) {
					to := func(i int) netip.AddrPort { return f.somewhere(i, worldPorts[i%len(worldPorts)]) }
					load{in: p.pod, uid: appID, gid: appID, requests: requests, to: to,
						right: func(i int, s seen) bool {
							return s.By == "outbound" && s.Peer.Addr() == f.pod.Addr() && s.For == f.pod.Addr().String() && s.To == named(to(i)) && s.Asked == to(i)
						},
					}.run(t)
					world.only(t, requests)
				})
			}
		})
	}
}

// named is an address and a port as HAProxy writes them.
func named(a netip.AddrPort) string { return fmt.Sprintf("%s:%d", a.Addr(), a.Port()) }
