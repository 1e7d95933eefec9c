// SPDX-License-Identifier: Apache-2.0

//go:build linux

package watch

import (
	"reflect"
	"testing"
	"unsafe"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// heard keeps what a listener is told.
type heard struct {
	changes []Change
	came    []ID
	went    []ID
}

func (h *heard) Changed(c Change)  { h.changes = append(h.changes, c) }
func (h *heard) Appeared(id ID)    { h.came = append(h.came, id) }
func (h *heard) Disappeared(id ID) { h.went = append(h.went, id) }
func (*heard) Overrun()            {}

// message is a notification with a header of four bytes before its attributes.
func message(t *testing.T, kind uint16, family byte, port uint32, attributes func(*netlink.AttributeEncoder)) netlink.Message {
	t.Helper()
	e := netlink.NewAttributeEncoder()
	attributes(e)
	data, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return netlink.Message{Header: netlink.Header{Type: netlink.HeaderType(kind), PID: port}, Data: append([]byte{family, 0, 0, 0}, data...)}
}

func nftMessage(t *testing.T, kind uint16, table string) netlink.Message {
	return message(t, unix.NFNL_SUBSYS_NFTABLES<<8|kind, unix.NFPROTO_INET, 0, func(e *netlink.AttributeEncoder) {
		e.String(unix.NFTA_TABLE_NAME, table)
	})
}

func generation(t *testing.T, id uint32, program string) netlink.Message {
	return message(t, unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_NEWGEN, unix.AF_UNSPEC, 8, func(e *netlink.AttributeEncoder) {
		e.Bytes(unix.NFTA_GEN_ID, []byte{byte(id >> 24), byte(id >> 16), byte(id >> 8), byte(id)})
		e.Bytes(unix.NFTA_GEN_PROC_PID, []byte{0, 0, 0, 7})
		e.String(unix.NFTA_GEN_PROC_NAME, program)
	})
}

// TestCommits: what a commit changed is gathered up to its generation, by namespace, though two commits arrive
// among each other.
func TestCommits(t *testing.T) {
	h := &heard{}
	c := &commits{to: h, open: map[ID]*Change{}}
	c.take(3, nftMessage(t, unix.NFT_MSG_NEWTABLE, "weir"))
	c.take(4, nftMessage(t, unix.NFT_MSG_DELRULE, "other"))
	c.take(3, nftMessage(t, unix.NFT_MSG_NEWCHAIN, "weir"))
	c.take(3, nftMessage(t, unix.NFT_MSG_NEWCHAIN, "weir"))
	c.take(4, generation(t, 1<<31, "nft"))
	c.take(3, netlink.Message{Header: netlink.Header{Type: unix.NFNL_SUBSYS_CTNETLINK << 8}, Data: make([]byte, 8)})
	c.take(3, netlink.Message{Header: netlink.Header{Type: unix.NFNL_SUBSYS_NFTABLES << 8}, Data: []byte{1}})
	c.take(3, generation(t, 9, "weir"))
	c.take(Own, generation(t, 10, "")) // which changed nothing that is told
	want := []Change{
		{ID: 4, Objects: []Object{Rule}, Tables: map[string]bool{"1 other": true}, Generation: 1 << 31, Writer: "nft", PID: 7, Port: 8},
		{ID: 3, Objects: []Object{Table, Chain}, Tables: map[string]bool{"1 weir": true}, Generation: 9, Writer: "weir", PID: 7, Port: 8},
		{ID: Own, Tables: map[string]bool{}, Generation: 10, PID: 7, Port: 8},
	}
	if !reflect.DeepEqual(h.changes, want) {
		t.Errorf("got  %+v\nwant %+v", h.changes, want)
	}
	if len(c.open) > 0 {
		t.Errorf("what was told is kept: %v", c.open)
	}
}

// TestRouting: each notification is a change by itself, and those of ids say which namespace came or went.
func TestRouting(t *testing.T) {
	h := &heard{}
	r := &routing{h}
	none := func(*netlink.AttributeEncoder) {}
	id := func(n int32) func(*netlink.AttributeEncoder) {
		return func(e *netlink.AttributeEncoder) { e.Int32(netnsaNSID, n) }
	}
	r.take(5, message(t, unix.RTM_DELRULE, 0, 4711, none))
	r.take(5, message(t, unix.RTM_NEWADDR, 0, 0, none))
	r.take(5, message(t, unix.RTM_NEWNEIGH, 0, 0, none)) // is not heard
	r.take(Own, message(t, unix.RTM_NEWNSID, 0, 0, id(6)))
	r.take(Own, message(t, unix.RTM_DELNSID, 0, 0, id(5)))
	r.take(6, message(t, unix.RTM_NEWNSID, 0, 0, id(5))) // the id that a namespace has there
	r.take(Own, netlink.Message{Header: netlink.Header{Type: unix.RTM_NEWNSID}})
	want := &heard{[]Change{{ID: 5, Objects: []Object{PolicyRule}, Port: 4711}, {ID: 5, Objects: []Object{Address}}}, []ID{6}, []ID{5}}
	if !reflect.DeepEqual(h, want) {
		t.Errorf("got  %+v\nwant %+v", h, want)
	}
}

// TestNamespaceOf reads the id of a namespace from a datagram's control messages, others among them.
func TestNamespaceOf(t *testing.T) {
	one := func(level, kind int32, data []byte) []byte {
		b := make([]byte, unix.CmsgSpace(len(data)))
		h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
		h.Level, h.Type = level, kind
		h.SetLen(unix.CmsgLen(len(data)))
		copy(b[unix.CmsgLen(0):], data)
		return b
	}
	info := one(unix.SOL_NETLINK, unix.NETLINK_PKTINFO, make([]byte, 4))
	nsid := one(unix.SOL_NETLINK, unix.NETLINK_LISTEN_ALL_NSID, []byte{42, 0, 0, 0})
	for _, tt := range []struct {
		why     string
		control []byte
		is      bool
	}{
		{"none", nil, false},
		{"another", info, false},
		{"the id", nsid, true},
		{"the id after another", append(append([]byte{}, info...), nsid...), true},
		{"one that is cut off", nsid[:10], false},
	} {
		if id, is := namespaceOf(tt.control); is != tt.is || is && id != 42 {
			t.Errorf("%s: %d, %t", tt.why, id, is)
		}
	}
}
