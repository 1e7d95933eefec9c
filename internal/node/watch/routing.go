// SPDX-License-Identifier: Apache-2.0

//go:build linux

package watch

import (
	"github.com/mdlayher/netlink"
	"github.com/weir-mesh/weir/internal/nl"
	"golang.org/x/sys/unix"
)

// routing tells of rtnetlink's notifications, each by itself.
type routing struct{ to Listener }

const rtgenHeader = 4 // struct rtgenmsg of linux/rtnetlink.h with its padding

var routeObjects = map[uint16]Object{
	unix.RTM_NEWLINK: Link, unix.RTM_DELLINK: Link,
	unix.RTM_NEWADDR: Address, unix.RTM_DELADDR: Address,
	unix.RTM_NEWROUTE: Route, unix.RTM_DELROUTE: Route,
	unix.RTM_NEWRULE: PolicyRule, unix.RTM_DELRULE: PolicyRule,
}

func (r *routing) take(id ID, m netlink.Message) {
	kind := uint16(m.Header.Type)
	switch kind {
	case unix.RTM_NEWNSID, unix.RTM_DELNSID:
		if id != Own || len(m.Data) < rtgenHeader {
			return // it is the id that a namespace has in another one than this
		}
		a, err := nl.Decode(m.Data[rtgenHeader:])
		if err != nil || !a.Has(netnsaNSID) {
			return
		}
		told := ID(int32(a.Native32(netnsaNSID)))
		if kind == unix.RTM_NEWNSID {
			r.to.Appeared(told)
		} else {
			r.to.Disappeared(told)
		}
		return
	}
	if object, known := routeObjects[kind]; known {
		r.to.Changed(Change{ID: id, Objects: []Object{object}, Port: m.Header.PID})
	}
}
