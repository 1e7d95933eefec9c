// SPDX-License-Identifier: Apache-2.0

//go:build linux

package proxy_test

import (
	"errors"
	"net"
	"testing"

	"github.com/weir-mesh/weir/proxy"
)

// Diverted connections are the subject of TestRedirect and TestTProxy.
func TestOriginalDstOfNothingDiverted(t *testing.T) {
	for _, listen := range []string{"127.0.0.1:0", "[::1]:0"} {
		ln, err := net.Listen("tcp", listen)
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		out := dial(t, net.Dialer{}, ln.Addr().(*net.TCPAddr).AddrPort())
		in, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer in.Close()
		got, err := proxy.OriginalDst(in.(*net.TCPConn))
		if want := out.RemoteAddr().(*net.TCPAddr).AddrPort(); got != want || err != nil {
			t.Errorf("OriginalDst = %s, %v, want the local address %s", got, err, want)
		}
	}
}

func TestOriginalDstOfClosedConnection(t *testing.T) {
	conn := dial(t, net.Dialer{}, origin(t, "127.0.0.1:0", echo))
	conn.Close()
	if _, err := proxy.OriginalDst(conn); !errors.Is(err, net.ErrClosed) {
		t.Errorf("OriginalDst = %v, want net.ErrClosed", err)
	}
}
