// SPDX-License-Identifier: Apache-2.0

//go:build linux

package sockdiag

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"github.com/weir-mesh/weir/internal/nl"
	"golang.org/x/sys/unix"
)

// Traffic is what a TCP connection moved: payload.
type Traffic struct {
	Known     bool   // the kernel told it
	Sent      uint64 // that the other end has acknowledged, each byte once
	SentAgain uint64 // besides
	Received  uint64 // each byte once
}

// Connections lists the open TCP connections of one family with their traffic. The error may
// be nl.ErrChanged.
func Connections(ctx context.Context, s *nl.Socket, family byte) ([]Socket, error) {
	const size, extensionsAt, statesAt = 56, 2, 4 // struct inet_diag_req_v2 of linux/inet_diag.h
	const info = 1 << (diagInfo - 1)
	request := make([]byte, size)
	request[0], request[1], request[extensionsAt] = family, unix.IPPROTO_TCP, info
	binary.NativeEndian.PutUint32(request[statesAt:], uint32(AnyState&^Listening&^(1<<TimeWait)&^(1<<Bound)))
	out, err := list(ctx, s, unix.SOCK_DIAG_BY_FAMILY, request)
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.EAFNOSUPPORT):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("list TCP connections: %w", err)
	}
	return out, nil
}

// ListenEnded has a socket of sock_diag receive each TCP connection that ends from now on,
// with its traffic, with room for that many bytes of them. One that is reset at once
// (SO_LINGER of 0) has neither a remote port nor traffic.
func ListenEnded(ctx context.Context, s *nl.Socket, room int) error {
	// What a socket sends gives it a port, without which it hears no group, and loads tcp_diag.
	if _, err := Connections(ctx, s, unix.AF_INET); err != nil && !errors.Is(err, nl.ErrChanged) {
		return err
	}
	const tcp, tcp6 = 1, 3 // SKNLGRP_INET_TCP_DESTROY and SKNLGRP_INET6_TCP_DESTROY
	return errors.Join(s.Join(tcp, room), s.Join(tcp6, room))
}

// Ended are the connections that ended since it was asked last. Lost says that there were
// more than the socket has room for.
func Ended(s *nl.Socket) (out []Socket, lost bool, err error) {
	for {
		part, err := s.Receive(unix.MSG_DONTWAIT)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return out, lost, nil
		case errors.Is(err, unix.ENOBUFS), errors.Is(err, nl.ErrTruncated):
			lost = true
			continue
		case err != nil:
			return out, lost, fmt.Errorf("listen to closed connections: %w", err)
		}
		for len(part) > 0 {
			m, rest, err := nl.Next(part)
			if err != nil {
				return out, lost, err
			}
			part = rest
			if m.Header.Type != unix.SOCK_DIAG_BY_FAMILY {
				continue
			}
			one, err := decode(m.Data)
			if err != nil {
				return out, lost, err
			}
			out = append(out, one)
		}
	}
}

const diagInfo = 2 // INET_DIAG_INFO of linux/inet_diag.h

// traffic reads struct tcp_info of linux/tcp.h, which grows with the kernel.
func traffic(info []byte) Traffic {
	const acked, received, retransmitted, end = 120, 128, 208, 216 // the last since 4.19
	if len(info) < end {
		return Traffic{}
	}
	number := func(at int) uint64 { return binary.NativeEndian.Uint64(info[at:]) }
	return Traffic{Known: true, Sent: number(acked), SentAgain: number(retransmitted), Received: number(received)}
}
