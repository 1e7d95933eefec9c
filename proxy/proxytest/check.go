// SPDX-License-Identifier: Apache-2.0

//go:build linux

package proxytest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// check is one conversation of a client and a service.
type check struct {
	name    string
	inbound bool
	port    uint16
	talk    func(*attempt, *net.TCPConn) error
}

func checks() (out []check) {
	for _, side := range []struct {
		name    string
		inbound bool
	}{{"outbound", false}, {"inbound", true}} {
		out = append(out,
			check{side.name, side.inbound, echoPort, (*attempt).arrives},
			check{side.name + " bulk", side.inbound, echoPort, (*attempt).bulk},
			check{side.name + " client ends first", side.inbound, answerPort, (*attempt).clientEndsFirst},
			check{side.name + " server ends first", side.inbound, farewellPort, (*attempt).serverEndsFirst},
		)
	}
	return out
}

// arrives: the service speaks first, and sees the client that it should, at the address that the
// client asked for, once.
func (a *attempt) arrives(conn *net.TCPConn) error {
	if err := a.greeted(conn); err != nil {
		return err
	}
	if err := exchange(conn, request); err != nil {
		return err
	}
	saw, err := a.seen()
	if err != nil {
		return err
	}
	switch self := plain(conn.LocalAddr()); {
	case saw.asked != a.dst:
		return fmt.Errorf("the connection to %s arrived at %s: the proxy does not dial the original destination", a.dst, saw.asked)
	case saw.peer == self && !a.side.KeepClient:
		return fmt.Errorf("the connection from %s to %s arrived past the proxy: the test's own rules do not divert it", self, a.dst)
	case saw.peer.Addr() != a.want && a.side.KeepClient:
		return fmt.Errorf("the proxy dials from its own address: the service sees %s, want the client's %s; set IP_TRANSPARENT and bind to that address", saw.peer.Addr(), a.want)
	case saw.peer.Addr() != a.want:
		return fmt.Errorf("the proxy dials from another address: the service sees %s, want %s", saw.peer.Addr(), a.want)
	}
	if again := len(a.served); again > 0 {
		return fmt.Errorf("the service got %d connections for one of the client's", 1+again)
	}
	return nil
}

// bulk: more than any buffer holds, both ways at once and unaltered.
func (a *attempt) bulk(conn *net.TCPConn) error {
	if err := a.greeted(conn); err != nil {
		return err
	}
	sent := payload()
	written := make(chan error, 1)
	go func() {
		_, err := conn.Write(sent)
		written <- err
	}()
	heard := make([]byte, len(sent))
	switch n, err := io.ReadFull(conn, heard); {
	case err != nil:
		return fmt.Errorf("%d of %d bytes came back (%w): the proxy loses bytes", n, len(sent), err)
	case !bytes.Equal(heard, sent):
		return errors.New("other bytes came back than were sent: the proxy alters them")
	}
	return <-written
}

// clientEndsFirst: who has said everything is still answered.
func (a *attempt) clientEndsFirst(conn *net.TCPConn) error {
	if _, err := io.WriteString(conn, request); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	if err := conn.CloseWrite(); err != nil {
		return fmt.Errorf("end the stream: %w", err)
	}
	heard, err := io.ReadAll(conn)
	if err != nil || string(heard) != answer {
		return fmt.Errorf("the client ended its stream and got %q of the answer %q (%v): the proxy loses half-close; pass on the end of one stream by shutdown(SHUT_WR) and leave the other open", heard, answer, err)
	}
	return a.heardBy(request, "before it ended its stream")
}

// serverEndsFirst: who has heard everything can still speak.
func (a *attempt) serverEndsFirst(conn *net.TCPConn) error {
	heard, err := io.ReadAll(conn)
	if err != nil || string(heard) != farewell {
		return fmt.Errorf("the client got %q of %q and then no end of the stream (%v)", heard, farewell, err)
	}
	if _, err = io.WriteString(conn, request); err == nil {
		err = conn.CloseWrite()
	}
	if err != nil {
		return fmt.Errorf("the server ended its stream, and the client cannot send any more (%w): the proxy loses half-close; pass on the end of one stream by shutdown(SHUT_WR) and leave the other open", err)
	}
	return a.heardBy(request, "after the server had ended its stream")
}

func (a *attempt) heardBy(want, when string) error {
	saw, err := a.seen()
	if err != nil {
		return err
	}
	if saw.err != nil || string(saw.heard) != want {
		return fmt.Errorf("the server got %q of the %q that the client sent %s (%v): the proxy loses half-close; pass on the end of one stream by shutdown(SHUT_WR) and leave the other open", saw.heard, want, when, saw.err)
	}
	return nil
}

// greeted reads what the service says first.
func (a *attempt) greeted(conn *net.TCPConn) error {
	got := make([]byte, len(greeting))
	if n, err := io.ReadFull(conn, got); err != nil || string(got) != greeting {
		return fmt.Errorf("the server speaks first, and the client got %q of its %q (%v)", got[:n], greeting, err)
	}
	return nil
}

// exchange sends what the service sends back.
func exchange(conn *net.TCPConn, text string) error {
	if _, err := io.WriteString(conn, text); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	got := make([]byte, len(text))
	if n, err := io.ReadFull(conn, got); err != nil || string(got) != text {
		return fmt.Errorf("%q of %q came back (%v)", got[:n], text, err)
	}
	return nil
}

// seen is the connection as the service saw it.
func (a *attempt) seen() (served, error) {
	select {
	case saw := <-a.served:
		return saw, nil
	case <-time.After(patience):
		return served{}, errors.New("the service got no connection")
	}
}
