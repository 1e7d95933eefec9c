// SPDX-License-Identifier: Apache-2.0

//go:build linux

package proxy_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weir-mesh/weir/proxy"
	"golang.org/x/sys/unix"
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

// BenchmarkUDPFlow tells the memory that an open flow holds: of the proxy's heap, of its goroutines' stacks, and
// of what the kernel keeps of a descriptor. As many are open as a UDPServer has by default, and then as many
// again have taken the places of these.
func BenchmarkUDPFlow(b *testing.B) {
	const flows = proxy.DefaultMaxFlows
	for b.Loop() {
		origin, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
		if err != nil {
			b.Fatal(err)
		}
		ln, err := proxy.ListenUDP(b.Context(), netip.MustParseAddrPort("127.0.0.1:0"), proxy.SocketOptions{})
		if err != nil {
			b.Fatal(err)
		}
		ctx, cancel := context.WithCancel(b.Context())
		served := make(chan error)
		go func() {
			served <- (&proxy.UDPServer{Dial: udpTo(origin.LocalAddr().(*net.UDPAddr).AddrPort(), proxy.Dialer{})}).Serve(ctx, ln)
		}()
		from := rawClients(b, ln.Addr(), 2*flows)
		callFrom(b, from[:1], origin)
		before := memoryNow(b)
		callFrom(b, from[1:flows], origin)
		full := memoryNow(b)
		callFrom(b, from[flows:], origin)
		evicted := memoryNow(b)
		if got := ln.Stats(); got.Flows != flows || got.Evicted != flows {
			b.Errorf("counted %+v, want %d flows and as many that were evicted", got, flows)
		}
		each := func(m memory) memory {
			return memory{(m.heap - before.heap) / (flows - 1), (m.stacks - before.stacks) / (flows - 1), (m.kernel - before.kernel) / (flows - 1)}
		}
		for name, m := range map[string]memory{"": each(full), "-after-evictions": each(evicted)} {
			b.ReportMetric(m.heap, "heap-B/flow"+name)
			b.ReportMetric(m.stacks, "stack-B/flow"+name)
			b.ReportMetric(m.kernel, "kernel-B/flow"+name)
		}
		cancel()
		if err := <-served; err != nil {
			b.Fatal(err)
		}
		origin.Close()
		for _, fd := range from {
			unix.Close(fd)
		}
	}
}

// rawClients are sockets that the runtime does not know, connected to an address: they take none of its memory.
func rawClients(b *testing.B, to netip.AddrPort, count int) (fds []int) {
	for range count {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			b.Fatal(err)
		}
		fds = append(fds, fd)
		if err := unix.Connect(fd, &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())}); err != nil {
			b.Fatal(err)
		}
	}
	return fds
}

// callFrom sends a datagram from each, and waits until the origin has it.
func callFrom(b *testing.B, clients []int, origin *net.UDPConn) {
	_ = origin.SetReadDeadline(time.Now().Add(patience))
	text := make([]byte, 1)
	for _, fd := range clients {
		if _, err := unix.Write(fd, text); err != nil {
			b.Fatal(err)
		}
		if _, err := origin.Read(text); err != nil {
			b.Fatal(err)
		}
	}
}

// memory is in bytes.
type memory struct{ heap, stacks, kernel float64 }

func memoryNow(b *testing.B) memory {
	for range 2 { // what is freed once is no longer pooled after the second
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		b.Fatal(err)
	}
	return memory{float64(m.HeapAlloc), float64(m.StackInuse), float64(len(open)) * socketSize(b)}
}

// socketSize is what the kernel keeps of a UDP socket that a program polls, by the sizes of its objects: those
// of a cache that is shared with others, and so has another name, are left out.
func socketSize(b *testing.B) (size float64) {
	text, err := os.ReadFile("/proc/slabinfo")
	if err != nil {
		b.Skip(err)
	}
	for line := range strings.Lines(string(text)) {
		var name string
		var active, all, each float64
		_, _ = fmt.Sscan(line, &name, &active, &all, &each) // the first two lines say what the others are
		if slices.Contains([]string{"UDP", "sock_inode_cache", "filp", "dentry", "eventpoll_epi"}, name) {
			size += each
		}
	}
	return size
}
