// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nft

import (
	"net"
	"testing"

	"github.com/weir-mesh/weir/internal/conntrack"
	"github.com/weir-mesh/weir/internal/sockdiag"
)

// TestOpenOnesLeaveRoomForEnded: where more connections are open than are held at once, those that have ended are
// forgotten all the same.
func TestOpenOnesLeaveRoomForEnded(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	c := dialKernel(t)
	if err := nftLoad("table inet tracks { chain c { type filter hook output priority 0; ct state invalid counter; }; }"); err != nil {
		t.Fatal(err)
	}
	loUp(t)
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	const open, ended = 12, 12
	var both [][2]net.Conn
	for range open + ended {
		client, err := net.Dial("tcp4", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		server, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer server.Close()
		both = append(both, [2]net.Conn{client, server})
	}
	if _, err := runNFT("", "delete", "table", "inet", "tracks"); err != nil {
		t.Fatal(err)
	}
	for _, b := range both[:ended] {
		b[0].Close()
		b[1].Close()
	}
	if err := c.forgetEnded(t.Context(), sockdiag.Socket.Open, 4); err != nil {
		t.Error(err)
	}
	left := map[conntrack.Tuple]bool{}
	err = conntrack.TCP(t.Context(), c.nf, func(e conntrack.Entry) error {
		if e.State != conntrack.TimeWait { // whose end was seen, since tracking goes a while after its rule
			left[e.Original] = true
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(left) != open {
		t.Errorf("%d connections are remembered, want the %d that are open", len(left), open)
	}
}
