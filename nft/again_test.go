// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nft

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/weir-mesh/weir/rules"
)

// TestReadAgain reads beside another program that changes what is read all the
// time, and has so much of it that one message of the kernel's does not hold it.
func TestReadAgain(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	loUp(t)
	var have strings.Builder
	for i := range 300 {
		fmt.Fprintf(&have, "rule add priority %d fwmark %d lookup 77\n", 1000+i, i+1)
	}
	ipBatch(t, have.String())
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	writer, c := dialKernel(t), dialKernel(t)
	go func() {
		for ctx.Err() == nil {
			s := rules.State{Addresses: []netip.Prefix{netip.MustParsePrefix("127.2.0.1/32")},
				PolicyRules: []rules.PolicyRule{{Family: rules.IPv4, Priority: 5000, Mark: 1, Mask: 1, Table: 133}}}
			_, err := writer.addRouting(t.Context(), s)
			err = errors.Join(err, writer.removeRouting(t.Context(), s))
			if err != nil {
				ended <- err
				return
			}
		}
		ended <- nil
	}()
	for range 100 {
		live, err := c.Read(t.Context(), "weir")
		if err != nil {
			t.Error(err)
		} else if have := len(live.routing.policyRules); have < 300 {
			t.Errorf("%d policy rules", have)
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
}

// ipBatch runs ip(8) with a script.
func ipBatch(t *testing.T, script string) {
	t.Helper()
	cmd := exec.Command("ip", "-batch", "-")
	cmd.Stdin = strings.NewReader(script)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("ip: %v: %s", err, out)
	}
}

// TestAgainEnds: not even for ever.
func TestAgainEnds(t *testing.T) {
	defer func(d time.Duration) { patience = d }(patience)
	patience = 10 * time.Millisecond
	if err := again(t.Context(), func() error { return errGeneration }); !errors.Is(err, ErrChanged) {
		t.Error(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if err := again(ctx, func() error { return errGeneration }); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// ipRoute runs ip(8) with each command.
func ipRoute(t *testing.T, commands ...string) {
	t.Helper()
	for _, command := range commands {
		if out, err := exec.Command("ip", strings.Fields(command)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v: %s", command, err, out)
		}
	}
}
