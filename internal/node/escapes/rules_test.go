// SPDX-License-Identifier: Apache-2.0

package escapes

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/weir-mesh/weir/modes"
	"github.com/weir-mesh/weir/rules"
)

func stateOf(t *testing.T, c modes.Config) rules.State {
	t.Helper()
	state, _, err := modes.State(c, modes.Environment{IPv6: true})
	if err != nil {
		t.Fatal(err)
	}
	return state
}

// TestRules: the copy passes the model's checks, counts where the capture redirects, and decides about nothing.
func TestRules(t *testing.T) {
	for _, tt := range []struct {
		why       string
		config    modes.Config
		counted   int
		has, lack string
	}{
		{"a sidecar", modes.Config{Mode: modes.ModeSidecar, Proxy: modes.Proxy{UIDs: []string{"1337"}}}, 4, "@proxy_uids", "open_ipv4"},
		{"what is excluded is not an escape", modes.Config{Mode: modes.ModeSidecar, Proxy: modes.Proxy{UIDs: []string{"1337"}}, Outbound: modes.Outbound{ExcludeCIDRs: []string{"10.9.0.0/16"}}}, 4, "10.9.0.0", "redirect to"},
		{"TPROXY inbound: what goes out alone", modes.Config{Mode: modes.ModeSidecar, Proxy: modes.Proxy{UIDs: []string{"1337"}}, Inbound: modes.Inbound{Via: "tproxy"}}, 3, "hook output", "hook input"},
		{"a pod of the ambient mesh", modes.Config{Mode: modes.ModeAmbientPod}, 4, "0x00000539", "ct mark"},
		{"queries", modes.Config{Mode: modes.ModeSidecar, Proxy: modes.Proxy{UIDs: []string{"1337"}}, DNS: modes.DNS{Capture: "all"}}, 6, "udp dport 53", "redirect to"},
	} {
		got, err := Rules(stateOf(t, tt.config))
		if err != nil {
			t.Errorf("%s: %v", tt.why, err)
			continue
		}
		if err := got.Check(); err != nil {
			t.Errorf("%s: %v", tt.why, err)
		}
		var printed strings.Builder
		if err := got.Print(&printed); err != nil {
			t.Error(err)
		}
		text := printed.String()
		counters := 0
		for _, c := range got.Table.Chains {
			for _, r := range c.Rules {
				for _, n := range r.Nodes {
					switch n := n.(type) {
					case rules.Counter:
						counters++
					case rules.Verdict:
						if n.Kind == rules.DropKind {
							t.Errorf("%s: it drops", tt.why)
						}
					}
				}
			}
		}
		if counters != tt.counted {
			t.Errorf("%s: %d rules count, want %d", tt.why, counters, tt.counted)
		}
		if !strings.Contains(text, tt.has) || strings.Contains(text, tt.lack) {
			t.Errorf("%s: want %s and not %s in\n%s", tt.why, tt.has, tt.lack, text)
		}
	}
}

// TestUncounted: what cannot be copied whole is not counted.
func TestUncounted(t *testing.T) {
	var many []string
	for i := range maxElements + 1 {
		many = append(many, netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 1}).String())
	}
	for why, state := range map[string]rules.State{
		"nothing":                     {},
		"without connection tracking": stateOf(t, modes.Config{Mode: modes.ModeSidecar, Conntrack: "none", Proxy: modes.Proxy{Mark: "1337"}, Inbound: modes.Inbound{Via: "tproxy"}, Outbound: modes.Outbound{Via: "tproxy"}}),
		"a list that is long":         stateOf(t, modes.Config{Mode: modes.ModeSidecar, Proxy: modes.Proxy{UIDs: []string{"1337"}}, Outbound: modes.Outbound{ExcludeCIDRs: many}}),
	} {
		if _, err := Rules(state); !errors.Is(err, ErrUncounted) {
			t.Errorf("%s: %v", why, err)
		}
	}
}

func TestSince(t *testing.T) {
	for _, tt := range []struct{ now, before, want Count }{
		{Count{5, 7}, Count{3, 7}, Count{2, 0}},
		{Count{1, 0}, Count{3, 2}, Count{1, 0}}, // the table was made anew
	} {
		if got := tt.now.Since(tt.before); got != tt.want {
			t.Errorf("%+v since %+v is %+v, want %+v", tt.now, tt.before, got, tt.want)
		}
	}
	if got := fmt.Sprint(CountOf(nil)); got != "{0 0}" {
		t.Error(got)
	}
}
