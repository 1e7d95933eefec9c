// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"net/netip"
	"testing"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/weir-mesh/weir/internal/scratch"
	"golang.org/x/sys/unix"
)

func TestTheFateOfWhatIsRedirectedAndMarked(t *testing.T) {
	pod := newPod(t)
	scratch.Must(t, pod.Do(func() error {
		// TCP to port 80 by anyone is redirected to 15001 and marked; TCP to port 53 is tracked in a zone.
		c, err := nftables.New()
		if err != nil {
			return err
		}
		table := c.AddTable(&nftables.Table{Name: "t", Family: nftables.TableFamilyINet})
		tcpTo := func(port uint16, then ...expr.Any) []expr.Any {
			return append([]expr.Any{
				&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
				&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_TCP}},
				&expr.Payload{Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2, DestRegister: 1},
				&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.BigEndian.PutUint16(port)},
			}, then...)
		}
		raw := c.AddChain(&nftables.Chain{Name: "raw", Table: table, Type: nftables.ChainTypeFilter,
			Hooknum: nftables.ChainHookOutput, Priority: nftables.ChainPriorityRaw})
		nat := c.AddChain(&nftables.Chain{Name: "nat", Table: table, Type: nftables.ChainTypeNAT,
			Hooknum: nftables.ChainHookOutput, Priority: nftables.ChainPriorityNATDest})
		c.AddRule(&nftables.Rule{Table: table, Chain: raw, Exprs: tcpTo(53,
			&expr.Immediate{Register: 1, Data: binaryutil.NativeEndian.PutUint16(7)},
			&expr.Ct{Key: expr.CtKeyZONE, Register: 1, SourceRegister: true})})
		c.AddRule(&nftables.Rule{Table: table, Chain: nat, Exprs: tcpTo(80,
			&expr.Immediate{Register: 1, Data: binaryutil.NativeEndian.PutUint32(0x111)},
			&expr.Ct{Key: expr.CtKeyMARK, Register: 1, SourceRegister: true},
			&expr.Immediate{Register: 1, Data: binaryutil.BigEndian.PutUint16(15001)},
			&expr.Redir{RegisterProtoMin: 1})})
		return c.Flush()
	}))
	fates, err := RunProbes(t.Context(), pod, allProbes(t))
	scratch.Must(t, err)
	for _, tt := range []struct{ why, id, want string }{
		{"redirected", "pod/tcp4/uid1000.gid1000->9.9.9.9:80", "pod:15001 orig=9.9.9.9:80 src=kept ct=mark=0x111"},
		{"redirected, IPv6", "pod/tcp6/uid1000.gid1000->2001:db8:99::9:80", "pod:15001 orig=[2001:db8:99::9]:80 src=kept ct=mark=0x111"},
		{"only tracked", "pod/tcp4/uid1000.gid1000->9.9.9.9:22", "peer:7000 orig=9.9.9.9:22 src=kept"},
		{"in a zone of its own until it leaves", "pod/tcp4/uid1000.gid1000->9.9.9.9:53", "peer:7000 orig=9.9.9.9:53 src=kept ct=zone=7"},
	} {
		if got := fates[tt.id].String(); got != tt.want {
			t.Errorf("%s: %s: got %q, want %q", tt.why, tt.id, got, tt.want)
		}
	}
}

func TestTracksBySender(t *testing.T) {
	from := netip.MustParseAddrPort("[2001:db8::1]:5")
	got := tracksBySender([]scratch.Flow{
		{Proto: unix.IPPROTO_TCP, Src: from, Zone: 2},
		{Proto: unix.IPPROTO_TCP, Src: from, Mark: 0x539, Zone: 1},
		{Proto: unix.IPPROTO_TCP, Src: from, Zone: 2},
		{Proto: unix.IPPROTO_TCP, Src: from},
		{Proto: unix.IPPROTO_UDP, Src: from, Mark: 1},
	})
	if tcp := got[sender{"tcp", 5}]; len(tcp) != 2 || tcp[0] != "mark=0x539+zone=1" || tcp[1] != "zone=2" {
		t.Errorf("TCP: %q", tcp)
	}
	if udp := got[sender{"udp", 5}]; len(udp) != 1 || udp[0] != "mark=0x1" {
		t.Errorf("UDP: %q", udp)
	}
}
