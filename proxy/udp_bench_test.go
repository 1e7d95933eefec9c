// SPDX-License-Identifier: Apache-2.0

//go:build linux

package proxy_test

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/weir-mesh/weir/proxy"
)

// BenchmarkUDP sends bursts of datagrams of QUIC's size through the relay to an origin that sends
// each back, and waits for all of a burst.
func BenchmarkUDP(b *testing.B) {
	const burst, size = 32, 1200
	origin, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
	if err != nil {
		b.Fatal(err)
	}
	defer origin.Close()
	go func() {
		buffer := make([]byte, size)
		for {
			n, from, err := origin.ReadFromUDPAddrPort(buffer)
			if err != nil {
				return
			}
			_, _ = origin.WriteToUDPAddrPort(buffer[:n], from)
		}
	}()
	ln, err := proxy.ListenUDP(b.Context(), netip.MustParseAddrPort("127.0.0.1:0"), proxy.SocketOptions{})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	served := make(chan error)
	go func() {
		served <- (&proxy.UDPServer{Dial: udpTo(origin.LocalAddr().(*net.UDPAddr).AddrPort(), proxy.Dialer{})}).Serve(ctx, ln)
	}()
	client, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(ln.Addr()))
	if err != nil {
		b.Fatal(err)
	}
	defer client.Close()
	text := make([]byte, size)
	b.SetBytes(2 * size)
	b.ReportAllocs()
	if _, err := client.Write(text); err != nil { // the first waits for the dial
		b.Fatal(err)
	}
	if _, err := client.Read(text); err != nil {
		b.Fatal(err)
	}
	for sent := 0; sent < b.N; sent += burst {
		_ = client.SetDeadline(time.Now().Add(patience))
		for range burst {
			if _, err := client.Write(text); err != nil {
				b.Fatal(err)
			}
		}
		for range burst {
			if _, err := client.Read(text); err != nil {
				b.Fatal(err)
			}
		}
	}
	cancel()
	<-served
}
