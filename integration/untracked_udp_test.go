// SPDX-License-Identifier: Apache-2.0

//go:build linux

package integration

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weir-mesh/weir/internal/scratch"
	"github.com/weir-mesh/weir/proxy"
)

// datagramsEnv is what role datagrams listens on, and the addresses that it sends on from.
const datagramsEnv = "WEIR_TEST_DATAGRAMS"

// playDatagrams is the project's own proxy for datagrams, until its input ends: it makes the
// sockets that answer in the namespace where it runs. It prints each flow.
func playDatagrams() error {
	words := strings.Fields(os.Getenv(datagramsEnv))
	listen, err := netip.ParseAddrPort(words[0])
	if err != nil {
		return err
	}
	dialer := proxy.Dialer{Mark: untrackedMark}
	for _, w := range words[1:] {
		source, err := netip.ParseAddr(w)
		if err != nil {
			return err
		}
		dialer.Source = append(dialer.Source, source)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ln, err := proxy.ListenUDP(ctx, listen, proxy.SocketOptions{Transparent: true, Mark: untrackedMark})
	if err != nil {
		return err
	}
	server := proxy.UDPServer{Dial: dialer.DialUDP, OnOpen: func(c proxy.ConnInfo) { fmt.Println(c.Client, c.OriginalDst) }}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	fmt.Println("ready")
	return server.Serve(ctx, ln)
}

// datagrams starts the proxy for datagrams in the pod, on a port of both families, and keeps its flows.
func (p *realPod) datagrams(port uint16, sources ...netip.Addr) *sync.Map {
	p.Helper()
	c := newChild(p, "datagrams")
	c.Env = append(c.Env, fmt.Sprintf("%s=[::]:%d %s", datagramsEnv, port, strings.Trim(fmt.Sprint(sources), "[]")))
	if err := p.pod.Do(c.Start); err != nil {
		p.Fatal(err)
	}
	if first := c.hear(); first != "ready" {
		p.Fatalf("the proxy says %q", first)
	}
	flows := &sync.Map{}
	go func() {
		for c.lines.Scan() {
			flows.Store(c.lines.Text(), true)
		}
	}()
	return flows
}

// TestUntrackedUDP captures datagrams both ways: each flow reaches the project's own proxy, which
// recovers its destination, and its answer comes from the address that was asked.
func TestUntrackedUDP(t *testing.T) {
	flows := howOften(100, 1000)
	p := newRealPod(t)
	p.untracked(untrackedConfig + "udp: {outbound: {includePorts: [443], port: 15001}, inbound: {includePorts: [443], port: 15006}}\n")
	out := p.datagrams(15001)
	in := p.datagrams(15006, families[0].pass, families[1].pass)
	for _, ns := range []*scratch.Namespace{p.far, p.pod} {
		echo, err := scratch.Listeners{Name: "echo", Identity: scratch.Identity{UID: appID, GID: appID}, UDP: []uint16{443}, Transparent: []uint16{443}}.Serve(t.Context(), ns)
		if err != nil {
			t.Fatal(err)
		}
		defer echo.Close()
	}
	for _, f := range families {
		for _, way := range []struct {
			name  string
			from  *scratch.Namespace
			to    netip.AddrPort
			flows *sync.Map
		}{
			{"outbound", p.pod, f.somewhere(7, 443), out},
			{"inbound", p.far, netip.AddrPortFrom(f.pod.Addr(), 443), in},
		} {
			t.Run(way.name+" "+f.name, func(t *testing.T) {
				var want []string
				for range flows {
					from, err := askByDatagram(way.from, way.to, 1)
					if err != nil {
						t.Fatalf("after %d flows: %v", len(want), err)
					}
					want = append(want, fmt.Sprint(from, " ", way.to))
				}
				if _, err := askByDatagram(way.from, way.to, 9000); err != nil {
					t.Errorf("in fragments: %v", err)
				}
				scratch.Eventually(t, "the proxy has had every flow", func() bool {
					for _, w := range want {
						if _, had := way.flows.Load(w); !had {
							return false
						}
					}
					return true
				})
			})
		}
	}
	p.untrackedEntries(t)
}

// askByDatagram sends a datagram of that size and waits for the answer, which a connected socket takes
// from the address asked alone.
func askByDatagram(ns *scratch.Namespace, to netip.AddrPort, size int) (from netip.AddrPort, err error) {
	var conn *net.UDPConn
	err = ns.DoAs(appID, appID, func() (err error) {
		conn, err = net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
		return err
	})
	if err != nil {
		return from, err
	}
	defer conn.Close()
	from = conn.LocalAddr().(*net.UDPAddr).AddrPort()
	from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return from, err
	}
	if _, err := conn.Write(make([]byte, size)); err != nil {
		return from, err
	}
	_, err = conn.Read(make([]byte, 1500))
	return from, err
}
