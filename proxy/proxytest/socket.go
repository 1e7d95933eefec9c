// SPDX-License-Identifier: Apache-2.0

//go:build linux

package proxytest

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/weir-mesh/weir/internal/scratch"
)

// socket is a TCP socket of the pod, as sock_diag(7) tells of it.
type socket struct {
	local, remote netip.AddrPort
	ipv6          bool // of family AF_INET6, perhaps with IPv4 addresses
	only          bool // IPV6_V6ONLY
	listens       bool
	opens         bool // waits for the answer to its SYN
	mark          uint32
	transparent   bool
	options       bool // the kernel tells whether it is transparent (Linux 5.11)
}

// serves reports whether a listener takes connections of the family.
func (s socket) serves(ipv6 bool) bool {
	if !s.ipv6 {
		return !ipv6
	}
	if s.local.Addr().IsUnspecified() {
		return ipv6 || !s.only
	}
	return ipv6 == s.local.Addr().Is6()
}

// Of linux/inet_diag.h: struct inet_diag_req_v2, struct inet_diag_msg and its attributes.
const (
	requestSize    = 56
	requestFamily  = 0
	requestProto   = 1
	requestStates  = 4
	messageSize    = 72
	messageState   = 1
	messageSport   = 4
	messageDport   = 6
	messageSrc     = 8
	messageDst     = 24
	attrV6Only     = 11
	attrMark       = 15
	attrSockopt    = 22
	sockoptTransp  = 1 << 5
	stateSynSent   = 2
	stateListen    = 10
	statesOfIssue  = 1<<1 | 1<<stateSynSent | 1<<4 | 1<<5 | 1<<8 | 1<<stateListen // ESTABLISHED, FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT
	sockDiagFamily = 20                                                           // SOCK_DIAG_BY_FAMILY
)

// sockets lists the TCP sockets of a namespace that listen, open or carry data.
func sockets(ns *scratch.Namespace) (out []socket, err error) {
	err = ns.Do(func() error {
		conn, err := netlink.Dial(unix.NETLINK_SOCK_DIAG, nil)
		if err != nil {
			return err
		}
		defer conn.Close()
		for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
			request := make([]byte, requestSize)
			request[requestFamily], request[requestProto] = family, unix.IPPROTO_TCP
			binary.NativeEndian.PutUint32(request[requestStates:], statesOfIssue)
			messages, err := conn.Execute(netlink.Message{
				Header: netlink.Header{Type: sockDiagFamily, Flags: netlink.Request | netlink.Dump},
				Data:   request,
			})
			if err != nil {
				return err
			}
			for _, m := range messages {
				s, err := readSocket(m.Data)
				if err != nil {
					return err
				}
				out = append(out, s)
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list the sockets of the pod: %w", err)
	}
	return out, nil
}

func readSocket(data []byte) (socket, error) {
	if len(data) < messageSize {
		return socket{}, fmt.Errorf("a socket of %d bytes, want %d at least", len(data), messageSize)
	}
	s := socket{
		ipv6:    data[0] == unix.AF_INET6,
		listens: data[messageState] == stateListen,
		opens:   data[messageState] == stateSynSent,
	}
	end := func(address, port int) netip.AddrPort {
		size := 4
		if s.ipv6 {
			size = 16
		}
		ip, _ := netip.AddrFromSlice(data[address : address+size])
		return netip.AddrPortFrom(ip.Unmap(), binary.BigEndian.Uint16(data[port:]))
	}
	s.local, s.remote = end(messageSrc, messageSport), end(messageDst, messageDport)
	attributes, err := netlink.NewAttributeDecoder(data[messageSize:])
	if err != nil {
		return socket{}, err
	}
	for attributes.Next() {
		switch attributes.Type() {
		case attrV6Only:
			s.only = attributes.Uint8() != 0
		case attrMark:
			s.mark = attributes.Uint32()
		case attrSockopt:
			s.options, s.transparent = true, attributes.Bytes()[0]&sockoptTransp != 0
		}
	}
	return s, attributes.Err()
}
