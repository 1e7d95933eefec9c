// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package zdstest stands in for ztunnel: it speaks the proxy's end of package zds.
package zdstest

import (
	"errors"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"

	"github.com/weir-mesh/weir/internal/zds"
)

// Proxy is a connection to the agent.
type Proxy struct{ conn *net.UnixConn }

// Dial connects and says hello.
func Dial(socket string) (*Proxy, error) {
	conn, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: socket, Net: "unixpacket"})
	if err != nil {
		return nil, err
	}
	if _, err := conn.Write(zds.AppendHello(nil)); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return &Proxy{conn}, nil
}

// Close hangs up.
func (p *Proxy) Close() error { return p.conn.Close() }

// Next reads a request. The network namespace, which is nil but with an Add, is the caller's to close.
func (p *Proxy) Next() (zds.Request, *os.File, error) {
	buffer, rights := make([]byte, 4096), make([]byte, unix.CmsgSpace(4*4))
	n, oobn, flags, _, err := p.conn.ReadMsgUnix(buffer, rights)
	if err != nil {
		return zds.Request{}, nil, err
	}
	ns, err := descriptor(rights[:oobn])
	if err != nil {
		return zds.Request{}, nil, err
	}
	r, err := zds.ParseRequest(buffer[:n])
	switch {
	case err != nil:
	case flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0:
		err = fmt.Errorf("%s is cut", r.Kind)
	case (ns != nil) != (r.Kind == zds.Add):
		err = fmt.Errorf("%s with descriptor %v", r.Kind, ns != nil)
	}
	if err != nil && ns != nil {
		err = errors.Join(err, ns.Close())
		ns = nil
	}
	return r, ns, err
}

// descriptor is the one that came with a packet.
func descriptor(rights []byte) (*os.File, error) {
	if len(rights) == 0 {
		return nil, nil
	}
	messages, err := unix.ParseSocketControlMessage(rights)
	if err != nil {
		return nil, err
	}
	var all []int
	for i := range messages {
		fds, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			return nil, err
		}
		all = append(all, fds...)
	}
	if len(all) != 1 {
		for _, fd := range all {
			_ = unix.Close(fd)
		}
		return nil, fmt.Errorf("%d descriptors", len(all))
	}
	return os.NewFile(uintptr(all[0]), "netns"), nil
}

// Ack acknowledges a request; problem is "" for success.
func (p *Proxy) Ack(problem string) error {
	_, err := p.conn.Write(zds.AppendAck(nil, problem))
	return err
}
