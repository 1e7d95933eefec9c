// SPDX-License-Identifier: Apache-2.0

//go:build linux

package proxytest_test

import (
	"context"
	"os/exec"
	"testing"

	"github.com/weir-mesh/weir/proxy"
	"github.com/weir-mesh/weir/proxy/proxytest"
)

// A test of a proxy that is a function. It would be a function TestTransparent in a file of its own.
func ExampleTest() {
	side := func(ctx context.Context, s proxytest.Side) error {
		ln, err := proxy.Listen(ctx, s.Listen, proxy.SocketOptions{Transparent: s.Transparent})
		if err != nil {
			return err
		}
		dialer := proxy.Dialer{Mark: s.Mark, KeepClient: s.KeepClient, Source: s.Source}
		return (&proxy.Server{Dial: dialer.Dial}).Serve(ctx, ln)
	}
	_ = func(t *testing.T) {
		proxytest.Test(t, func(ctx context.Context, s proxytest.Setup) error {
			ended := make(chan error, 2)
			go func() { ended <- side(ctx, s.Outbound) }()
			go func() { ended <- side(ctx, s.Inbound) }()
			return <-ended
		})
	}
}

// A test of a proxy that is a program.
func ExampleTestCommand() {
	_ = func(t *testing.T) {
		proxytest.TestCommand(t, func(s proxytest.Setup) *exec.Cmd {
			config := "redirect.conf"
			if s.Inbound.Transparent {
				config = "tproxy.conf"
			}
			return exec.Command("myproxy", "--config", config)
		})
	}
}
