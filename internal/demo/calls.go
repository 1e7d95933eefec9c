// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"text/tabwriter"
	"time"

	"github.com/weir-mesh/weir/internal/scratch"
)

// call is one connection of the show.
type call struct {
	who  string
	from *scratch.Namespace
	as   scratch.Identity
	to   netip.AddrPort
}

func (s *scene) calls() []call {
	return []call{
		{"application", s.pod, s.app, netip.MustParseAddrPort(fmt.Sprintf("%s:%d", serviceV4, servicePort))},
		{"application", s.pod, s.app, netip.MustParseAddrPort(fmt.Sprintf("[%s]:%d", serviceV6, servicePort))},
		{"world", s.world, scratch.Identity{}, netip.MustParseAddrPort(fmt.Sprintf("%s:%d", podV4, appPort))},
		{"world", s.world, scratch.Identity{}, netip.MustParseAddrPort(fmt.Sprintf("[%s]:%d", podV6, appPort))},
	}
}

// warm waits until packets pass, for the first wait for addresses to resolve.
func (s *scene) warm(ctx context.Context) error {
	for _, c := range s.calls() {
		for {
			if _, err := dial(c); err == nil {
				break
			} else if ctx.Err() != nil {
				return errors.Join(ctx.Err(), err)
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	return nil
}

// dial connects and reads who answers.
func dial(c call) (answer string, err error) {
	err = c.from.DoAs(c.as.UID, c.as.GID, func() error {
		conn, err := (&net.Dialer{Timeout: answerWithin}).Dial("tcp", c.to.String())
		if err != nil {
			return err
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(answerWithin))
		line, err := bufio.NewReader(conn).ReadString('\n')
		if err != nil && err != io.EOF {
			return err
		}
		answer = line[:max(len(line)-1, 0)]
		return nil
	})
	return answer, err
}

// show makes every call and prints, side by side, what was dialled, where it
// landed, and what the proxy recovered. It fails where capture is not as
// expected.
func (s *scene) show(ctx context.Context, captured bool) error {
	w := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "  who\tdialled\tlanded on\tthe proxy recovered\tanswered by")
	for _, c := range s.calls() {
		answer, err := dial(c)
		if err != nil {
			return fmt.Errorf("%s to %s: %w", c.who, c.to, err)
		}
		landed, recovered := c.to.String(), "-"
		select {
		case info := <-s.accepted:
			landed, recovered = info.Listener.String(), info.OriginalDst.String()
		default:
		}
		fmt.Fprintf(w, "  %s\t%s\t%s\t%s\t%s\n", c.who, c.to, landed, recovered, answer)
		if captured && recovered != c.to.String() || !captured && recovered != "-" {
			w.Flush()
			return fmt.Errorf("%s to %s: captured %v was expected", c.who, c.to, captured)
		}
	}
	return w.Flush()
}
