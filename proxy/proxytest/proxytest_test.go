// SPDX-License-Identifier: Apache-2.0

//go:build linux

package proxytest

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"testing"

	"github.com/weir-mesh/weir/proxy"
)

// author is a proxy's author, who may make mistakes.
type author struct {
	forgetsMark, ownAddress, ipv4Alone, notTransparent, losesHalfClose, marksListener bool
}

// serve is the proxy of package proxy, but for what the author does wrong.
func (a author) serve(ctx context.Context, s Setup) error {
	ended := make(chan error, 2)
	for _, side := range []Side{s.Outbound, s.Inbound} {
		go func() { ended <- a.serveSide(ctx, side) }()
	}
	return errors.Join(<-ended, <-ended)
}

func (a author) serveSide(ctx context.Context, side Side) error {
	options := proxy.SocketOptions{Transparent: side.Transparent && !a.notTransparent}
	if a.marksListener {
		options.Mark = side.Mark
	}
	dialer := proxy.Dialer{Mark: side.Mark, KeepClient: side.KeepClient && !a.ownAddress, Source: side.Source}
	if a.forgetsMark {
		dialer.Mark = 0
	}
	listen := side.Listen
	if a.ipv4Alone {
		listen = netip.AddrPortFrom(netip.IPv4Unspecified(), listen.Port())
	}
	ln, err := proxy.Listen(ctx, listen, options)
	if err != nil {
		return err
	}
	if a.losesHalfClose {
		return serveWhole(ctx, ln, dialer)
	}
	return (&proxy.Server{Dial: dialer.Dial}).Serve(ctx, ln)
}

// serveWhole ends both streams of a connection when one has ended.
func serveWhole(ctx context.Context, ln *proxy.Listener, dialer proxy.Dialer) error {
	defer context.AfterFunc(ctx, func() { ln.Close() })()
	for {
		client, err := ln.AcceptConn()
		if err != nil {
			return nil
		}
		go func() {
			defer client.Close()
			upstream, err := dialer.Dial(ctx, client.ConnInfo)
			if err != nil {
				return
			}
			defer upstream.Close()
			ended := make(chan struct{}, 2)
			one := func(dst, src *net.TCPConn) {
				_, _ = io.Copy(dst, src)
				ended <- struct{}{}
			}
			go one(upstream, client.TCPConn)
			go one(client.TCPConn, upstream)
			<-ended
		}()
	}
}

func TestOwnProxy(t *testing.T) {
	Test(t, author{}.serve)
}

// TestFaults has proxies with one fault each, and wants that fault to be named, where it shows and
// nowhere else.
//
// With -short each fault is found once: what passes, and what fails by waiting, is long.
func TestFaults(t *testing.T) {
	needNamespaces(t)
	for _, tt := range []struct {
		fault  string
		author author
		reason func(via Via, f family, c check) string // "" where it passes
	}{
		{"forgets the mark", author{forgetsMark: true}, func(via Via, _ family, c check) string {
			switch {
			case !c.inbound:
				return "in a loop"
			case via == TProxy:
				return "has mark 0x0, want SO_MARK 0x539"
			}
			return ""
		}},
		{"dials from its own address", author{ownAddress: true}, func(via Via, _ family, c check) string {
			return where(via == TProxy && c.name == "inbound", "dials from its own address")
		}},
		{"listens on IPv4 alone", author{ipv4Alone: true}, func(_ Via, f family, _ check) string {
			return where(f.name == "ipv6", "listens on IPv4 alone")
		}},
		{"is not transparent", author{notTransparent: true}, func(via Via, _ family, c check) string {
			return where(via == TProxy && c.inbound, "is not transparent")
		}},
		{"loses half-close", author{losesHalfClose: true}, func(_ Via, _ family, c check) string {
			return where(strings.HasSuffix(c.name, "ends first"), "loses half-close")
		}},
		{"marks its listener", author{marksListener: true}, func(via Via, _ family, c check) string {
			return where(via == TProxy && c.inbound, "what they answer is diverted")
		}},
	} {
		t.Run(tt.fault, func(t *testing.T) {
			playProxy(t.Name(), tt.author.serve)
			found := false
			for _, via := range []Via{Redirect, TProxy} {
				b := newBench(via, func(s Setup) *exec.Cmd { return proxyCommand(t.Name(), s) })
				for _, f := range families() {
					for _, c := range checks() {
						want := tt.reason(via, f, c)
						if testing.Short() && (want == "" || found) {
							continue
						}
						found = true
						err := b.run(t.Context(), c, f)
						if (want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), want) {
							t.Errorf("%s/%s/%s: %v, want the reason %q", via, f.name, c.name, err, want)
						}
					}
				}
				if err := b.close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func where(fails bool, reason string) string {
	if fails {
		return reason
	}
	return ""
}

// A proxy that ends is not waited for, and what it wrote is shown.
func TestProxyThatEnds(t *testing.T) {
	playProxy(t.Name(), func(context.Context, Setup) error { return errors.New("the configuration is missing") })
	needNamespaces(t)
	b := newBench(Redirect, func(s Setup) *exec.Cmd { return proxyCommand(t.Name(), s) })
	err := b.run(t.Context(), checks()[0], families()[0])
	for _, want := range []string{"does not listen on port 15001", "exit status 1", "the configuration is missing"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// A proxy that goes elsewhere is found, too.
func TestProxyThatDialsElsewhere(t *testing.T) {
	playProxy(t.Name(), func(ctx context.Context, s Setup) error {
		elsewhere := func(ctx context.Context, c proxy.ConnInfo) (*net.TCPConn, error) {
			c.OriginalDst = netip.AddrPortFrom(netip.MustParseAddr("198.51.100.7"), c.OriginalDst.Port())
			return proxy.Dialer{Mark: s.Outbound.Mark}.Dial(ctx, c)
		}
		ended := make(chan error, 2)
		for _, side := range []Side{s.Outbound, s.Inbound} {
			ln, err := proxy.Listen(ctx, side.Listen, proxy.SocketOptions{})
			if err != nil {
				return err
			}
			go func() { ended <- (&proxy.Server{Dial: elsewhere}).Serve(ctx, ln) }()
		}
		return errors.Join(<-ended, <-ended)
	})
	needNamespaces(t)
	b := newBench(Redirect, func(s Setup) *exec.Cmd { return proxyCommand(t.Name(), s) })
	const want = "the connection to 203.0.113.10:8080 arrived at 198.51.100.7:8080"
	if err := b.run(t.Context(), checks()[0], families()[0]); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%v, want %q", err, want)
	}
}
