// SPDX-License-Identifier: Apache-2.0

package names

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"time"
)

var (
	errMore   = errors.New("not all of it is there")
	errSeen   = errors.New("seen")
	errNoName = errors.New("no name in it")
)

// ServerName is the name that a client asks for in the first bytes of a connection, "" for none; more is true where not
// all of its ClientHello is there.
func ServerName(first []byte) (name string, more bool) {
	const handshake = 0x16
	if len(first) == 0 {
		return "", true
	}
	if first[0] != handshake {
		return "", false
	}
	name, err := hello(first)
	return name, errors.Is(err, errMore)
}

// hello is the name that a ClientHello asks for, as records of TLS. The error is errMore
// where they are cut short, errNoName where it asks for none, and else says what is wrong.
func hello(records []byte) (name string, err error) {
	conn := &recorded{r: bytes.NewReader(records)}
	server := tls.Server(conn, &tls.Config{GetConfigForClient: func(info *tls.ClientHelloInfo) (*tls.Config, error) {
		name, conn.seen = info.ServerName, true
		return nil, errSeen
	}})
	err = server.Handshake()
	switch {
	case conn.seen && name == "":
		return "", errNoName
	case conn.seen:
		return canonical(name), nil
	case conn.ended:
		return "", errMore
	}
	return "", err
}

// asRecords puts a handshake message, as QUIC carries it, into records.
func asRecords(message []byte) []byte {
	const most = 1 << 14
	var out []byte
	for len(message) > 0 {
		part := message[:min(len(message), most)]
		out = append(out, 0x16, 3, 1)
		out = binary.BigEndian.AppendUint16(out, uint16(len(part)))
		out = append(out, part...)
		message = message[len(part):]
	}
	return out
}

// canonical is a host name in the one way that it is counted by.
func canonical(name string) string {
	return strings.ToLower(strings.TrimSuffix(name, "."))
}

// recorded is a connection of which what a client sent was recorded.
type recorded struct {
	r           *bytes.Reader
	seen, ended bool
}

func (c *recorded) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	if errors.Is(err, io.EOF) {
		c.ended = true
	}
	return n, err
}

func (c *recorded) Write(b []byte) (int, error)      { return len(b), nil }
func (c *recorded) Close() error                     { return nil }
func (c *recorded) LocalAddr() net.Addr              { return nil }
func (c *recorded) RemoteAddr() net.Addr             { return nil }
func (c *recorded) SetDeadline(time.Time) error      { return nil }
func (c *recorded) SetReadDeadline(time.Time) error  { return nil }
func (c *recorded) SetWriteDeadline(time.Time) error { return nil }
