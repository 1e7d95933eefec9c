// SPDX-License-Identifier: Apache-2.0

//go:build linux

package proxy_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/netip"
	"time"

	"github.com/weir-mesh/weir/proxy"
)

// A whole proxy. It takes what is diverted to port 15001, by REDIRECT or TPROXY and in both families,
// to where it was going. The rules let packets with its mark pass.
func Example() {
	ctx := context.Background()
	ln, err := proxy.Listen(ctx, netip.MustParseAddrPort("[::]:15001"), proxy.SocketOptions{Transparent: true, Mark: 0x53d})
	if err != nil {
		log.Fatal(err)
	}
	dialer := proxy.Dialer{Mark: 0x53d}
	for {
		client, err := ln.AcceptConn()
		if err != nil {
			log.Fatal(err)
		}
		go func() {
			upstream, err := dialer.Dial(ctx, client.ConnInfo)
			if err != nil {
				log.Print(err)
				client.Reset()
				return
			}
			if _, err := proxy.Relay(ctx, client.TCPConn, upstream, time.Hour); err != nil {
				log.Printf("%s -> %s: %v", client.Client, client.OriginalDst, err)
			}
		}()
	}
}

// Nothing diverts connections here, so Dial says where they go.
func ExampleServer() {
	greeter, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	defer greeter.Close()
	go func() {
		conn, err := greeter.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		fmt.Fprint(conn, "hello, ", conn.RemoteAddr().(*net.TCPAddr).IP)
	}()

	ctx, cancel := context.WithCancel(context.Background())
	ln, err := proxy.Listen(ctx, netip.MustParseAddrPort("127.0.0.1:0"), proxy.SocketOptions{})
	if err != nil {
		log.Fatal(err)
	}
	dialer := proxy.Dialer{Source: []netip.Addr{netip.MustParseAddr("127.0.0.6")}}
	server := &proxy.Server{
		Dial: func(ctx context.Context, c proxy.ConnInfo) (*net.TCPConn, error) {
			c.OriginalDst = greeter.Addr().(*net.TCPAddr).AddrPort()
			return dialer.Dial(ctx, c)
		},
	}
	served := make(chan error)
	go func() { served <- server.Serve(ctx, ln) }()

	conn, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	answer, err := io.ReadAll(conn)
	if err != nil {
		log.Fatal(err)
	}
	conn.Close()
	fmt.Printf("%s\n", answer)

	cancel()
	fmt.Println(<-served)
	// Output:
	// hello, 127.0.0.6
	// <nil>
}

// A sidecar's two listeners: 15001 for what the application asks of others, by REDIRECT, and 15006
// for what others ask of it, by TPROXY. The rules let marked packets pass.
func Example_sidecar() {
	const mark = 1337
	ctx := context.Background()
	serve := func(port uint16, options proxy.SocketOptions, dialer proxy.Dialer) error {
		ln, err := proxy.Listen(ctx, netip.AddrPortFrom(netip.IPv6Unspecified(), port), options)
		if err != nil {
			return err
		}
		server := &proxy.Server{
			Dial:     dialer.Dial,
			OnAccept: func(c proxy.ConnInfo) { log.Printf("%s -> %s", c.Client, c.OriginalDst) },
			OnClose: func(c proxy.ConnInfo, carried proxy.Bytes, err error) {
				log.Printf("%s -> %s: %+v %v", c.Client, c.OriginalDst, carried, err)
			},
		}
		return server.Serve(ctx, ln)
	}
	failed := make(chan error, 2)
	go func() { failed <- serve(15001, proxy.SocketOptions{}, proxy.Dialer{Mark: mark}) }()
	go func() {
		failed <- serve(15006, proxy.SocketOptions{Transparent: true}, proxy.Dialer{Mark: mark, KeepClient: true})
	}()

	err := <-failed
	if refused := (*proxy.OptionError)(nil); errors.As(err, &refused) {
		log.Fatalf("grant the proxy %s: %v", refused.Needs, err)
	}
	log.Fatal(err)
}

// A proxy for UDP, of which QUIC is the most: what TPROXY diverts to port 15001 goes to where it was
// going, and the answers come from there. The rules let packets with its mark pass.
func ExampleListenUDP() {
	ctx := context.Background()
	ln, err := proxy.ListenUDP(ctx, netip.MustParseAddrPort("[::]:15001"), proxy.SocketOptions{Transparent: true, Mark: 0x53d})
	if err != nil {
		log.Fatal(err)
	}
	server := &proxy.UDPServer{Dial: proxy.Dialer{Mark: 0x53d}.DialUDP}
	log.Fatal(server.Serve(ctx, ln))
}

// Nothing diverts datagrams here, so Dial says where they go.
func ExampleUDPServer() {
	greeter, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	defer greeter.Close()
	go func() {
		name := make([]byte, 100)
		n, client, err := greeter.ReadFrom(name)
		if err == nil {
			_, _ = greeter.WriteTo([]byte("hello, "+string(name[:n])), client)
		}
	}()

	ctx, cancel := context.WithCancel(context.Background())
	ln, err := proxy.ListenUDP(ctx, netip.MustParseAddrPort("127.0.0.1:0"), proxy.SocketOptions{})
	if err != nil {
		log.Fatal(err)
	}
	server := &proxy.UDPServer{
		Dial: func(ctx context.Context, c proxy.ConnInfo) (*net.UDPConn, error) {
			c.OriginalDst = greeter.LocalAddr().(*net.UDPAddr).AddrPort()
			return proxy.Dialer{}.DialUDP(ctx, c)
		},
		OnClose: func(c proxy.ConnInfo, carried proxy.Bytes, err error) {
			fmt.Printf("%+v %v\n", carried, err)
		},
	}
	served := make(chan error)
	go func() { served <- server.Serve(ctx, ln) }()

	conn, err := net.Dial("udp", ln.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "weir")
	answer := make([]byte, 100)
	n, err := conn.Read(answer)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n", answer[:n])

	cancel()
	fmt.Println(<-served)
	// Output:
	// hello, weir
	// {FromClient:4 FromUpstream:11} proxy: context canceled
	// <nil>
}
