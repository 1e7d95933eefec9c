// SPDX-License-Identifier: Apache-2.0

//go:build linux

package netns

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/weir-mesh/weir/internal/nl"
	"github.com/weir-mesh/weir/nft"
)

// TestReadAgain reads beside another program that changes what is read all the
// time, and has so much of it that one message of the kernel's does not hold it.
func TestReadAgain(t *testing.T) {
	n := newScratch(t)
	var have []string
	for i := range 300 {
		have = append(have, fmt.Sprintf("address add 127.1.%d.%d/32 dev lo", i/200, i%200+1), fmt.Sprintf("rule add priority %d fwmark %d lookup 77", 1000+i, i+1))
	}
	for i := range 50 {
		have = append(have, fmt.Sprintf("link add link%d type bridge", i))
	}
	ipRoute(t, n, have...)
	change := strings.Repeat("address add 127.2.0.1/32 dev lo\nrule add priority 5000 fwmark 1/1 lookup 133\nrule del priority 5000\n"+
		"address del 127.2.0.1/32 dev lo\nlink set link0 name other\nlink set other name link0\n", 20)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		for ctx.Err() == nil {
			if out, err := ipBatch(n, change); err != nil {
				ended <- fmt.Errorf("ip: %w: %s", err, out)
				return
			}
		}
		ended <- nil
	}()
	reads := 100
	if testing.Short() {
		reads = 10
	}
	for range reads {
		addresses, err := n.Addresses(t.Context())
		if err != nil || len(addresses) < 300 {
			t.Errorf("%d addresses, %v", len(addresses), err)
		}
		names, err := n.LinkNames(t.Context())
		if err != nil || len(names) < 50 {
			t.Errorf("%d links, %v", len(names), err)
		}
		host, err := n.Host(t.Context())
		if err != nil || len(host.Links) < 50 || len(host.PolicyRules) < 300 {
			t.Errorf("%d links, %d policy rules, %v", len(host.Links), len(host.PolicyRules), err)
		}
		if lo, err := n.Loopback(t.Context()); err != nil || !lo.Up {
			t.Errorf("lo is %+v, %v", lo, err)
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
}

// TestReadAgainEnds: what others change for ever is not read for ever.
func TestReadAgainEnds(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	reads := 0
	err := readAgain(ctx, func() error {
		if reads++; reads == 3 {
			stop()
		}
		return nl.ErrChanged
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("after %d reads: %v", reads, err)
	}
	if err := readAgain(t.Context(), func() error { return nft.ErrNotPermitted }); !errors.Is(err, nft.ErrNotPermitted) {
		t.Errorf("another error: %v", err)
	}
}
