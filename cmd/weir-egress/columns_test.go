// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/weir-mesh/weir/internal/egress/watch"
	"github.com/weir-mesh/weir/internal/term"
)

// TestTable fits a terminal, of 80 columns and of 120, and is no taller than it. What matters stands out.
func TestTable(t *testing.T) {
	r := watch.Report{Lost: 2, Rows: []watch.Row{
		{Host: "oss-cn-shanghai.aliyuncs.com", Port: 443, Proto: "tcp", Owner: "1000", By: "sni", Conns: 812, Sent: 1_200_000_000, Received: 84_100_000_000, Now: 310_000_000},
		{Host: strings.Repeat("long.", 40) + "example", Port: 443, Proto: "udp", Owner: "shop/a-pod-of-a-deployment-6c54f4d8b-xkq7z", By: "quic!", Conns: 3, Sent: 1, Received: 999_000_000},
		{Host: "e\x1b[2Jvil\n.example", Port: 80, Proto: "tcp", By: "http"},
	}}
	for _, width := range []int{80, 100, 120} {
		var b bytes.Buffer
		printer{look: term.Look{Width: width}, users: map[string]string{}}.table(&b, r, 1)
		t.Logf("\n%s", b.String())
		for line := range strings.Lines(b.String()) {
			if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > width {
				t.Errorf("%d of %d columns: %q", n, width, line)
			}
		}
		for _, want := range []string{"310 Mbit/s", "443/udp", "quic!", "1 more row (--top)", "2 copies", `e\x1`, "ample"} {
			if !strings.Contains(b.String(), want) {
				t.Errorf("%d columns: %q is not there:\n%s", width, want, b.String())
			}
		}
	}
	for width, want := range map[int]bool{80: false, 120: true} {
		var b bytes.Buffer
		printer{look: term.Look{Width: width}}.table(&b, r, 0)
		if strings.Contains(b.String(), "CONNS") != want {
			t.Errorf("%d columns: CONNS is there: %t:\n%s", width, !want, b.String())
		}
	}
	var b bytes.Buffer
	printer{look: term.Look{Width: 80, Colours: true}, live: true}.table(&b, r, 0)
	for _, want := range []string{"\x1b[1mHOST\x1b[0m", "\x1b[31mquic!\x1b[0m", "\x1b[33m2 copies"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q does not stand out in %q", want, b.String())
		}
	}
	b.Reset()
	printer{look: term.Look{Width: 80}, height: 6}.table(&b, r, 0)
	if n := strings.Count(b.String(), "\n"); n > 6 || !strings.Contains(b.String(), "1 more row ") {
		t.Errorf("%d lines of 6:\n%s", n, b.String())
	}
}
