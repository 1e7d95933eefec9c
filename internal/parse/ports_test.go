// SPDX-License-Identifier: Apache-2.0

package parse

import (
	"slices"
	"testing"
)

func TestWithoutPorts(t *testing.T) {
	for _, tt := range []struct {
		why               string
		list, minus, want []string
	}{
		{"nothing less nothing", nil, nil, []string{}},
		{"what is not in the other list stays as written", []string{"80", "8000-8100"}, []string{"443"}, []string{"80", "8000-8100"}},
		{"a port that is in the other list goes", []string{"80", "443"}, []string{"443"}, []string{"80"}},
		{"a range loses its middle", []string{"1-10"}, []string{"4-6"}, []string{"1-3", "7-10"}},
		{"a range loses its ends", []string{"1-10"}, []string{"1", "10"}, []string{"2-9"}},
		{"a range goes whole", []string{"5-6"}, []string{"1-10"}, nil},
		{"the last port has none after it", []string{"65534-65535"}, []string{"65535"}, []string{"65534"}},
		{"what is not a port stays", []string{"web", "80"}, []string{"80", "x"}, []string{"web"}},
		{"a service is its port", []string{"http", "443"}, []string{"80", "https"}, nil},
		{"port 0 by itself is a range", []string{":90"}, []string{"1-90"}, []string{"0-0"}},
	} {
		if got := WithoutPorts(tt.list, tt.minus); !slices.Equal(got, tt.want) {
			t.Errorf("%s: got %q, want %q", tt.why, got, tt.want)
		}
	}
}
