// SPDX-License-Identifier: Apache-2.0

package parse

import "testing"

func TestIfNames(t *testing.T) {
	for _, tt := range []struct {
		word, name string
		want       bool
	}{
		{"eth0", "eth0", true},
		{"eth0", "eth01", false},
		{"eth+", "eth0", true},
		{"eth*", "eth", true},
		{"eth*", "veth0", false},
		{"+", "lo", true},
		{"*", "lo", true},
		{"all", "lo", true},
		{"", "lo", false},
	} {
		if got := Matches(IfName(tt.word), tt.name); got != tt.want {
			t.Errorf("%q matches %q: %v", tt.word, tt.name, got)
		}
	}
}

func TestCgroupPath(t *testing.T) {
	for word, want := range map[string]string{
		"kubelet.slice": "kubelet.slice", "/kubelet.slice/kubelet.service/": "kubelet.slice/kubelet.service",
		"": "", "/": "", "a//b": "", "a/../b": "", ".": "",
	} {
		if got := CgroupPath(word); got != want {
			t.Errorf("the path of %q is %q, not %q", word, got, want)
		}
	}
}

func TestNumber(t *testing.T) {
	for _, tt := range []struct {
		word string
		bits int
		hex  bool
		want uint64
		ok   bool
	}{
		{"0", 16, false, 0, true}, {"65535", 16, false, 65535, true}, {"65536", 16, false, 0, false},
		{"010", 16, false, 0, false}, {"0x1F", 16, true, 31, true}, {"0x1f", 16, false, 0, false},
		{"-1", 32, true, 0, false}, {"+1", 32, true, 0, false}, {"1_0", 32, true, 0, false}, {"", 32, true, 0, false},
	} {
		if got, ok := Number(tt.word, tt.bits, tt.hex); ok != tt.ok || ok && got != tt.want {
			t.Errorf("%q of %d bits is %d, %v", tt.word, tt.bits, got, ok)
		}
	}
}

func TestWordsForLists(t *testing.T) {
	for word, want := range map[string][2]bool{"all": {true, false}, "ALL": {true, false}, "*": {true, false}, "None": {false, true}, "off": {false, true}, "80": {}} {
		if got := [2]bool{IsAll(word), IsNone(word)}; got != want {
			t.Errorf("%q stands for all, none: %v, not %v", word, got, want)
		}
	}
}
