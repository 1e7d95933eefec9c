// SPDX-License-Identifier: Apache-2.0

// Command quic is the two ends of QUIC connections for a test of the UDP proxy: a server that echoes,
// and a client that changes its port in the middle of each connection. It is a module of its own, so
// that quic-go is not a dependency of weir's.
//
//	quic server ADDRESS:PORT                 prints "ready", and serves until its input ends
//	quic client ADDRESS:PORT CONNECTIONS     prints how many were right, or fails
//	quic get ADDRESS:PORT URL CAFILE         asks over HTTP/3, and where that fails over TCP; prints both outcomes
package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/quic-go/quic-go"
)

const (
	protocol = "weir-test"
	atOnce   = 8 // connections of a client
	patience = 20 * time.Second
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "quic:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) < 2 {
		return errors.New("want server ADDRESS:PORT, client ADDRESS:PORT CONNECTIONS, or get ADDRESS:PORT URL CAFILE")
	}
	addr, err := netip.ParseAddrPort(args[1])
	switch {
	case err != nil:
		return err
	case args[0] == "server":
		return serve(addr)
	case args[0] == "client" && len(args) == 3:
		n, err := strconv.Atoi(args[2])
		if err != nil {
			return err
		}
		return ask(addr, n)
	case args[0] == "get" && len(args) == 4:
		return get(addr, args[2], args[3])
	}
	return fmt.Errorf("unknown arguments %q", args)
}

func serve(addr netip.AddrPort) error {
	certificate, err := selfSigned()
	if err != nil {
		return err
	}
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(addr))
	if err != nil {
		return err
	}
	ln, err := quic.Listen(conn, &tls.Config{Certificates: []tls.Certificate{certificate}, NextProtos: []string{protocol}}, nil)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	for {
		c, err := ln.Accept(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		go func() {
			stream, err := c.AcceptStream(ctx)
			if err != nil {
				return
			}
			_, _ = io.Copy(stream, stream)
			_ = stream.Close()
		}()
	}
}

func selfSigned() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}

func ask(addr netip.AddrPort, n int) error {
	var all sync.WaitGroup
	slots := make(chan struct{}, atOnce)
	errs := make([]error, n)
	for i := range n {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			if err := askOnce(addr); err != nil {
				errs[i] = fmt.Errorf("connection %d: %w", i, err)
			}
		})
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	fmt.Println(n)
	return nil
}

// askOnce has half of the stream sent from one port and half from another.
func askOnce(addr netip.AddrPort) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn := &movingConn{server: addr}
	if err := conn.move(); err != nil {
		return err
	}
	defer conn.Close()
	transport := &quic.Transport{Conn: conn}
	defer transport.Close()
	c, err := transport.Dial(ctx, net.UDPAddrFromAddrPort(addr), &tls.Config{ServerName: "quic.example", InsecureSkipVerify: true, NextProtos: []string{protocol}}, nil)
	if err != nil {
		return fmt.Errorf("dial: %w", err)
	}
	defer func() { _ = c.CloseWithError(0, "") }()
	stream, err := c.OpenStreamSync(ctx)
	if err != nil {
		return err
	}
	deadline, _ := ctx.Deadline()
	_ = stream.SetDeadline(deadline)
	text := bytes.Repeat([]byte("0123456789abcdef"), 1<<10)
	for range 2 {
		if _, err := stream.Write(text); err != nil {
			return err
		}
		got := make([]byte, len(text))
		if _, err := io.ReadFull(stream, got); err != nil {
			return fmt.Errorf("after %d moves: %w", conn.moves(), err)
		}
		if !bytes.Equal(got, text) {
			return errors.New("other bytes came back")
		}
		if err := conn.move(); err != nil {
			return err
		}
	}
	return conn.wrong()
}
