// SPDX-License-Identifier: Apache-2.0

package modes

import (
	"errors"
	"strings"
	"testing"
)

// TestRenamed: whatever a message names of a configuration, a program may name
// otherwise, and the rest stays.
func TestRenamed(t *testing.T) {
	name := func(r Ref) string {
		if r.Value != "" {
			return "--" + r.Key + "=" + r.Value
		}
		return "--" + r.Key
	}
	for _, tt := range []struct {
		why    string
		config Config
		want   string
	}{
		{"a key with its value", sidecarWith(func(c *Config) { c.Inbound.IncludePorts = []PortWord{} }),
			"--inbound.includePorts: captures nothing (want ports, all, or --inbound.via=none)"},
		{"a key of another list", sidecarWith(func(c *Config) {
			c.Inbound.IncludePorts, c.Inbound.ExcludePorts = []PortWord{"80"}, []PortWord{"80"}
		}), `--inbound.excludePorts: "80" is in --inbound.includePorts too`},
		{"a mask", sidecarWith(func(c *Config) { c.Inbound.Via, c.Routing.Mark, c.Routing.Mask = "tproxy", "0x1000", "0xfff" }),
			`--routing.mark: "0x1000" has bits outside its mask, 0xfff of --routing.mask: it never matches (want a mask that holds them, such as 0x1000/0x1fff)`},
		{"no key", sidecarWith(func(c *Config) { c.Outbound.Port = "%s" }),
			`--outbound.port: "%s" is not a port (want a number of 1-65535, or a range that the proxy listens on)`},
	} {
		var config *ConfigError
		if _, _, err := State(tt.config, testEnvironment); !errors.As(err, &config) {
			t.Errorf("%s: got %v, want a ConfigError", tt.why, err)
		} else if got := config.Renamed(name).Error(); got != tt.want {
			t.Errorf("%s:\ngot  %s\nwant %s", tt.why, got, tt.want)
		} else if before := strings.NewReplacer("--", "", "=", ": ").Replace(got); before != config.Error() {
			t.Errorf("%s: got %s, renamed from %s", tt.why, got, config)
		}
	}
	_, notes, err := State(sidecarWith(func(c *Config) { c.Outbound.Port = "15006" }), testEnvironment)
	if err != nil || len(notes) == 0 || notes[0].Renamed(name).String() != "--outbound.port: 15006 is --inbound.port too: one listener has to serve for both" {
		t.Errorf("notes %v, %v", notes, err)
	}
}

func sidecarWith(change func(*Config)) Config {
	c := Config{Mode: ModeSidecar, Proxy: Proxy{UIDs: []string{"1337"}}}
	change(&c)
	return c
}
