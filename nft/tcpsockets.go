package nft

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/mdlayher/netlink"
	"github.com/weir-mesh/weir/internal/nl"
	"golang.org/x/sys/unix"
)

// tcpSocket is a TCP socket of the namespace, listening, open or closing.
type tcpSocket struct {
	ends
	state       byte // TCP_ESTABLISHED and so on of include/net/tcp_states.h
	cookie      uint64
	resend      time.Duration // until it sends a packet again that was not answered
	transparent bool          // IP_TRANSPARENT, where the kernel tells options
	options     bool          // it does, since Linux 5.11
}

// ends are the addresses of a connection as one of its ends sees them.
type ends struct{ local, remote netip.AddrPort }

// turned are the same ends as the other one sees them, unless nat is between.
func (e ends) turned() ends { return ends{e.remote, e.local} }

// States of include/net/tcp_states.h.
const (
	tcpSynSent  = 2
	tcpSynRecv  = 3
	tcpTimeWait = 6
	tcpClose    = 7
	tcpListen   = 10
	tcpBound    = 13 // TCP_BOUND_INACTIVE
)

// open reports whether a packet of the connection may still come, or it still opens.
// In TIME_WAIT both ends have closed, and all that they sent has arrived.
func (s tcpSocket) open() bool {
	switch s.state {
	case tcpTimeWait, tcpClose, tcpListen, tcpBound:
		return false
	}
	return true
}

// Request of linux/inet_diag.h that lists TCP of both families in one go; the one by
// family takes two walks through all sockets of the machine.
const (
	diagTCP           = 18 // TCPDIAG_GETSOCK
	diagTCPSize       = 60 // struct inet_diag_req
	diagTCPStatesAt   = 52
	diagTimerResend   = 1
	diagTransparent   = 1 << 5 // of struct inet_diag_sockopt
	diagCookieAt      = 44
	diagExpiresAt     = 52
	diagStateAt       = 1
	diagTimerAt       = 2
	diagSourcePortAt  = 4
	diagDestPortAt    = 6
	diagSourceAt      = 8
	diagDestinationAt = 24
)

// tcpSockets lists the TCP sockets of both families in every state.
func (c *Conn) tcpSockets(ctx context.Context) (out []tcpSocket, err error) {
	if c.diag == nil {
		return nil, c.noDiag
	}
	if c.noTCP() {
		return nil, nil
	}
	request := make([]byte, diagTCPSize)
	binary.NativeEndian.PutUint32(request[diagTCPStatesAt:], ^uint32(0))
	err = again(ctx, func() error {
		out = nil
		return dumpEach(ctx, c.diag, diagTCP, request, func(m netlink.Message) error {
			s, err := liftTCPSocket(m.Data)
			out = append(out, s)
			return err
		})
	})
	switch {
	case errors.Is(err, unix.ENOENT):
		return nil, errNoDiagnosis
	case err != nil:
		return nil, fmt.Errorf("list TCP sockets: %w", err)
	}
	return out, nil
}

var errNoDiagnosis = errors.New("TCP sockets cannot be listed: this kernel has no sock_diag for TCP (CONFIG_INET_TCP_DIAG)")

func liftTCPSocket(data []byte) (tcpSocket, error) {
	if len(data) < diagMessageSize {
		return tcpSocket{}, nl.ErrShort
	}
	a, err := nl.Decode(data[diagMessageSize:])
	if err != nil {
		return tcpSocket{}, err
	}
	size := 16
	if data[0] == unix.AF_INET {
		size = 4
	}
	end := func(address, port int) netip.AddrPort {
		ip, _ := netip.AddrFromSlice(data[address : address+size])
		return netip.AddrPortFrom(ip.Unmap(), binary.BigEndian.Uint16(data[port:])) // a mapped one sends IPv4
	}
	s := tcpSocket{
		ends:   ends{end(diagSourceAt, diagSourcePortAt), end(diagDestinationAt, diagDestPortAt)},
		state:  data[diagStateAt],
		cookie: binary.NativeEndian.Uint64(data[diagCookieAt:]),
	}
	if data[diagTimerAt] == diagTimerResend {
		s.resend = time.Duration(nl.Native32(data[diagExpiresAt:diagExpiresAt+4])) * time.Millisecond
	}
	if options := a.Take(diagSockopt); len(options) > 0 {
		s.options, s.transparent = true, options[0]&diagTransparent != 0
	}
	return s, nil
}
