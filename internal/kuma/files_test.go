// SPDX-License-Identifier: Apache-2.0

//go:build linux

package kuma

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weir-mesh/weir/internal/meshinit"
	"github.com/weir-mesh/weir/modes"
)

// TestFiles: variables win over files, and flags over both.
func TestFiles(t *testing.T) {
	name := filepath.Join(t.TempDir(), "kuma.yaml")
	document := "kumaDPUser: 101\nredirect: {inbound: {port: 1, excludePorts: [22]}, outbound: {port: 2, enabled: true}, dns: {enabled: true, captureAll: true, port: 3}}\n"
	if err := os.WriteFile(name, []byte(document), 0o600); err != nil {
		t.Fatal(err)
	}
	in := func(stdin string) meshinit.Input {
		return meshinit.Input{Stdin: strings.NewReader(stdin), Variable: func(variable string) (string, bool) {
			return "20", variable == "KUMA_TRANSPARENT_PROXY_REDIRECT_OUTBOUND_PORT"
		}}
	}
	meaning := func(stdin string, args ...string) modes.Config {
		t.Helper()
		a, err := Parse(args, in(stdin))
		if err != nil {
			t.Fatal(err)
		}
		c, err := a.Config(environment)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	c := meaning("", "--config", name, "--redirect-dns-port", "30")
	if c.Proxy.UIDs[0] != "101" || c.Inbound.Port != "1" || c.Inbound.ExcludePorts[0] != "22" || c.Outbound.Port != "20" || c.DNS.Capture != "all" || c.DNS.Port != "30" {
		t.Errorf("got %+v", c)
	}
	if c := meaning("redirect: {inbound: {port: 4}}", "--config="+name, "--config", "-"); c.Inbound.Port != "4" || c.DNS.Port != "3" {
		t.Errorf("of two files: %+v", c)
	}
	for _, tt := range []struct{ stdin, name, want string }{
		{"", name + ".none", "--config: " + name + ".none: open"},
		{"redirect: [", "-", "--config: -: "},
		{strings.Repeat("#", maxFile+1), "-", "has more than 1048576 bytes"},
	} {
		if _, err := Parse([]string{"--config", tt.name}, in(tt.stdin)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %s", tt.name, err, tt.want)
		}
	}
}
