// SPDX-License-Identifier: Apache-2.0

//go:build linux

package cluster

import (
	"context"
	"fmt"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/weir-mesh/weir/internal/zds/zdstest"
	"github.com/weir-mesh/weir/netns"
)

func init() { roles["ztunnel"] = standIn }

// standIn stands in for ztunnel: it listens in the namespaces that the agent hands to it.
func standIn(args []string) error {
	for {
		if err := serveAgent(args[0]); err != nil {
			fmt.Println(err)
		}
	}
}

func serveAgent(socket string) error {
	var p *zdstest.Proxy
	for {
		var err error
		if p, err = zdstest.Dial(socket); err == nil {
			break
		}
		unix.Nanosleep(&unix.Timespec{Nsec: 100e6}, nil)
	}
	defer p.Close()
	fmt.Println("connected")
	for {
		r, ns, err := p.Next()
		if err != nil {
			return err
		}
		fmt.Println(r.Kind, r.Workload)
		problem := ""
		if ns != nil {
			if err := listenIn(ns); err != nil {
				problem = err.Error()
			}
			ns.Close()
		}
		if err := p.Ack(problem); err != nil {
			return err
		}
	}
}

// listenIn answers at ztunnel's listeners of a pod.
func listenIn(file *os.File) error {
	ns, err := netns.Open(fmt.Sprintf("/proc/self/fd/%d", file.Fd()))
	if err != nil {
		return err
	}
	defer ns.Close()
	marked := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
		outer := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, 0x539) })
		if outer != nil {
			return outer
		}
		return err
	}}
	return ns.Inside(func() error {
		for _, port := range []string{"15001", "15006", "15008"} {
			ln, err := marked.Listen(context.Background(), "tcp4", ":"+port)
			if err != nil {
				return err
			}
			go answerAll(ln, "ztunnel", port)
		}
		return nil
	})
}
