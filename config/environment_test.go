// SPDX-License-Identifier: Apache-2.0

package config

import (
	"slices"
	"testing"
)

func TestEnvironmentProblems(t *testing.T) {
	for _, tt := range []struct {
		why, text string
		want      []string
	}{
		{"nothing is no, and none", "", nil},
		{"null is no, and none", "ipv6:\nusers: ~\nresolvers:\n", nil},
		{"an unknown key", "ipv5: true\nhosts: {}\n", []string{
			"env:1:1: ipv5: unknown key (did you mean ipv6?)",
			"env:2:1: hosts: unknown key (want one of: ipv6, loopbackIPv6, postroutingInput, resolvers, users, groups, cgroups)",
		}},
		{"words of another kind", "ipv6: perhaps\nresolvers: [10.0.0.0/8, fe80::1%eth0]\nusers: {a: -1, b: 4294967296, c: [1]}\n", []string{
			`env:1:7: ipv6: "perhaps" is neither true nor false`,
			`env:2:13: resolvers: "10.0.0.0/8" is not an address (want 10.96.0.10 or fd00::10)`,
			`env:2:25: resolvers: "fe80::1%eth0" is not an address (want 10.96.0.10 or fd00::10)`,
			`env:3:12: users.a: "-1" is not a number from 0 to 4294967295`,
			`env:3:19: users.b: "4294967296" is not a number from 0 to 4294967295`,
			`env:3:34: users.c: is a list (want one word)`,
		}},
		{"values of another shape", "users: [envoy]\nloopbackIPv6: []\nresolvers: {a: b}\n", []string{
			"env:1:8: users: is a list (want names and numbers such as {envoy: 1337})",
			"env:2:15: loopbackIPv6: is a list (want one word)",
			"env:3:13: resolvers: holds a map (want words, in quotes where one ends in a colon)",
		}},
		{"no map at all", "[ipv6]\n", []string{"env:1:1: is a list (want keys: ipv6, loopbackIPv6, postroutingInput, resolvers, users, groups, cgroups)"}},
		{"two documents", "ipv6: on\n---\nipv6: off\n", []string{"env:3:1: a second document begins (want one a file)"}},
		{"a name twice", "users: {a: 1, a: 2}\n", []string{"env:1:15: users.a: is written twice (first in line 1)"}},
	} {
		_, err := ParseEnvironment("env", []byte(tt.text))
		if got := problemLines(err); !slices.Equal(got, tt.want) {
			t.Errorf("%s:\ngot  %q\nwant %q", tt.why, got, tt.want)
		}
	}
}

func FuzzParseEnvironment(f *testing.F) {
	f.Add([]byte("ipv6: yes\nusers: {envoy: 1337}\nresolvers: [::1]\n"))
	f.Add([]byte("- x"))
	f.Fuzz(func(_ *testing.T, data []byte) { _, _ = ParseEnvironment("env", data) })
}
