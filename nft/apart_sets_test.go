// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nft

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/weir-mesh/weir/internal/nl"
	"github.com/weir-mesh/weir/rules"
	"golang.org/x/sys/unix"
)

// TestNoBitOfASetIsLost flips a bit of each byte of what the sets, elements and
// chains of the completeness test are to the kernel: what differs there is another
// table, or something in it is unknown.
func TestNoBitOfASetIsLost(t *testing.T) {
	mutants := 0
	for _, r := range append(setRows(), hookRows()...) {
		state := r.state().Normal()
		b := &batch{}
		l := lower(b, state.Table)
		l.addTable()
		l.addAll(state.Table, nil)
		want, ok := replayed(b.changes)
		if !ok {
			t.Fatalf("%s: is not lifted", r.why)
		}
		for i, ch := range b.changes {
			if ch.typ != unix.NFT_MSG_NEWSET && ch.typ != unix.NFT_MSG_NEWSETELEM && ch.typ != unix.NFT_MSG_NEWCHAIN {
				continue
			}
			data := ch.data
			for n, at := range leavesBut(data, passedOver[ch.typ]) {
				mutant := bytes.Clone(data)
				mutant[at] ^= 1 << (n % 8)
				b.changes[i].data = mutant
				mutants++
				if have, ok := replayed(b.changes); ok && have == want {
					t.Errorf("%s: the same with bit %d of byte %d flipped in message %d, %q", r.why, n%8, at, ch.typ, data)
				}
			}
			b.changes[i].data = data
		}
	}
	if mutants < 1000 {
		t.Errorf("only %d bits were flipped", mutants)
	}
	t.Logf("%d bits", mutants)
}

// passedOver are attributes that are no part of a ruleset's meaning: its own
// table, numbers within the batch, what nft notes for its listing, what a counter
// begins with, and a policy, which is one of two.
var passedOver = map[int][]uint16{
	unix.NFT_MSG_NEWSET:     {unix.NFTA_SET_TABLE, unix.NFTA_SET_ID, unix.NFTA_SET_USERDATA, nftaSetExpr},
	unix.NFT_MSG_NEWSETELEM: {unix.NFTA_SET_ELEM_LIST_TABLE, unix.NFTA_SET_ELEM_LIST_SET_ID},
	unix.NFT_MSG_NEWCHAIN:   {unix.NFTA_CHAIN_TABLE, unix.NFTA_CHAIN_POLICY},
}

// leavesBut are the leaves of a message's attributes but some.
func leavesBut(b []byte, but []uint16) (out []int) {
	for at := 0; at+nl.AttributeHeader <= len(b); {
		length := int(binary.NativeEndian.Uint16(b[at:]))
		typ := binary.NativeEndian.Uint16(b[at+2:]) &^ (unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER)
		if !bytes.Contains(asBytes(but), asBytes([]uint16{typ})) {
			out = append(out, shifted(leaves(b[at:at+length], 0), at)...)
		}
		at += nl.Align(length)
	}
	return out
}

func asBytes(types []uint16) []byte {
	var out []byte
	for _, t := range types {
		out = append(out, byte(t)) // all are small
	}
	return out
}

func shifted(places []int, by int) []int {
	for i := range places {
		places[i] += by
	}
	return places
}

// replayed is the state that messages make, as a comparison sees it; false where
// they make none.
func replayed(changes []change) (string, bool) {
	k := &fakeKernel{sets: map[string]*rules.Set{}, elements: map[*rules.Set][]element{}}
	for _, ch := range changes {
		a, err := nl.Decode(ch.data)
		if err != nil || k.take(ch.typ, a) != nil {
			return "", false
		}
	}
	state := rules.State{Table: k.lifted()}.Normal()
	return state.Hash() + state.String(), true
}
