// SPDX-License-Identifier: Apache-2.0

package modes_test

import (
	"testing"

	"github.com/weir-mesh/weir/modes"
)

func TestLookups(t *testing.T) {
	for _, tt := range []struct {
		why  string
		c    modes.Config
		want modes.Lookups
	}{
		{"numbers are not names", modes.Config{Proxy: modes.Proxy{UIDs: []string{"1337"}, GIDs: []string{"1337"}}}, modes.Lookups{}},
		{"a user's name", modes.Config{Proxy: modes.Proxy{UIDs: []string{"1337", "envoy"}}}, modes.Lookups{Users: true}},
		{"a name may begin with a digit", modes.Config{Outbound: modes.Outbound{ExcludeUIDs: []string{"0day"}}}, modes.Lookups{Users: true}},
		{"a probe's user", modes.Config{Probes: modes.Probes{UIDs: []string{"kubelet"}}}, modes.Lookups{Users: true}},
		{"a group's name", modes.Config{Outbound: modes.Outbound{ExcludeGIDs: []string{"wheel"}}}, modes.Lookups{Groups: true}},
		{"all groups are no group by that name", modes.Config{Outbound: modes.Outbound{IncludeGIDs: []string{"all"}}}, modes.Lookups{}},
		{"the resolvers' DNS", modes.Config{DNS: modes.DNS{Capture: "servers"}}, modes.Lookups{Resolvers: true}},
		{"the DNS of resolvers that are named", modes.Config{DNS: modes.DNS{Capture: "servers", Servers: []string{"10.0.0.10"}}}, modes.Lookups{}},
		{"all DNS", modes.Config{DNS: modes.DNS{Capture: "all"}}, modes.Lookups{}},
		{"a word that is not a choice is left to who reads it", modes.Config{DNS: modes.DNS{Capture: "Servers "}}, modes.Lookups{Resolvers: true}},
	} {
		if got := tt.c.Lookups(); got != tt.want {
			t.Errorf("%s: %+v, want %+v", tt.why, got, tt.want)
		}
	}
}
