// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nft

import (
	"net/netip"
	"testing"

	"github.com/mdlayher/netlink"
	"github.com/weir-mesh/weir/internal/nl"
	"github.com/weir-mesh/weir/internal/sockdiag"
	"github.com/weir-mesh/weir/rules"
	"golang.org/x/sys/unix"
)

// TestDrainKeepsElements: what still translates while a table drains looks its sets up
// with their elements, although another program commits between the drain's requests.
func TestDrainKeepsElements(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	loUp(t)
	const generationsOfARead = 2 // requests, before and after
	c, other := dialKernel(t), dialKernel(t)
	state := captured(0)
	marks := &rules.Chain{Name: "marks", Base: &rules.Base{Type: rules.FilterType, Hook: rules.Prerouting, Priority: -150}}
	sources := rules.IPSaddr.AddSet(state.Table, "sources", rules.RangeOf(netip.MustParsePrefix("192.0.2.1/32")))
	marks.Add("the proxy's answers keep their mark", rules.IPSaddr.InSet(sources), rules.MetaMark.SetMasked(1, 1))
	state.Table.Chains = append(state.Table.Chains, marks)
	s := c.Session("weir", "test")
	if _, err := s.Apply(t.Context(), state); err != nil {
		t.Fatal(err)
	}
	if err := nl.Close(c.diag); err != nil {
		t.Fatal(err)
	}
	c.diag, c.noDiag = nil, sockdiag.ErrNoTCP // connections that cannot be counted are taken to be there
	asked := 0
	c.nf.Asked = func(m netlink.Message) {
		if m.Header.Type != nfType(unix.NFT_MSG_GETGEN) {
			return
		}
		if asked++; asked == generationsOfARead+1 {
			if _, err := other.Session("beside", "test").Apply(t.Context(), rules.State{Table: &rules.Table{Name: "beside"}}); err != nil {
				t.Error(err)
			}
		}
	}
	begun := false
	_, err := s.Drain(t.Context(), 0, func(Captured) {
		begun = true
		live, err := other.Read(t.Context(), "weir")
		if err != nil {
			t.Error(err)
			return
		}
		if set := live.State.Table.Set("sources"); set == nil || len(set.Elements) != 1 {
			t.Errorf("while it drains, the set is %+v", set)
		}
	})
	if err != nil || !begun {
		t.Errorf("the drain began: %t, %v", begun, err)
	}
}
