// SPDX-License-Identifier: Apache-2.0

//go:build linux

package integration

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/weir-mesh/weir/internal/scratch"
	"github.com/weir-mesh/weir/rules"
)

// ip runs ip(8) in the pod.
func (c captured) ip(args string) (out string) {
	c.Helper()
	cmd := exec.Command("ip", strings.Fields(args)...)
	var text strings.Builder
	cmd.Stdout, cmd.Stderr = &text, &text
	if err := c.Do(cmd.Run); err != nil {
		c.Fatalf("ip %s: %v %s", args, err, &text)
	}
	return text.String()
}

// placesOf are the priorities at which weir's policy rules stand in a family.
func (c captured) placesOf(family string) (at []string) {
	c.Helper()
	for line := range strings.Lines(c.ip(family + " rule")) {
		if place, _, _ := strings.Cut(line, ":"); strings.HasSuffix(strings.TrimSpace(line), "proto 119") {
			at = append(at, place)
		}
	}
	return at
}

// TestPlaceBeforeOthers: the proxy's onward call, with the client's address, is answered
// whichever policy rules others have, and whenever it came.
func TestPlaceBeforeOthers(t *testing.T) {
	t.Parallel()
	needUsers(t)
	sidecar := "version: 1\nmode: sidecar\nproxy: {uids: [1337]}\ninbound: {via: tproxy}\n"
	ambient := "version: 1\nmode: ambient-pod\n"
	istio := []string{"istio-init", "-p", "15001", "-z", "15006", "-u", "1337", "-m", "TPROXY", "-i", "*", "-b", "*", "--dual-stack"}
	apply := []string{"apply", "-f", "-"}
	for _, tt := range []struct {
		why, stdin string
		args       []string
		last       string // the place where nothing is in the way
	}{
		{"a sidecar", sidecar, apply, "32765"},
		{"an ambient pod", ambient, apply, "32764"},
		{"istio-init", "", istio, "32765"},
	} {
		t.Run(tt.why, func(t *testing.T) {
			t.Parallel()
			pod := capturedPod(t, scratch.Identity{UID: 1337, GID: 1337, Mark: 0x539}, nil, tt.stdin, tt.args...)
			call := func(when string) {
				t.Helper()
				for family, a := range labAddresses {
					pod.lands(scratch.Probe{ID: fmt.Sprintf("%s, %s", when, family), Namespace: "pod", Proto: "tcp",
						UID: 1000, GID: 1000, Mark: 0x539, Src: a.peer, Spoof: true, Dst: a.pod, DPort: 8080}, "pod:8080")
				}
			}
			stands := func(when, want string) {
				t.Helper()
				for _, family := range []string{"-4", "-6"} {
					if at := pod.placesOf(family); len(at) != 1 || at[0] != want {
						t.Errorf("%s: weir's rule of %s stands at %v, want %s\n%s", when, family, at, want, pod.ip(family+" rule"))
					}
				}
			}
			again := func() { pod.weir(nil, tt.stdin, tt.args...) }
			verify := func() {
				t.Helper()
				if tt.stdin != "" {
					pod.weir(nil, tt.stdin, "verify", "-f", "-")
				}
				pod.weir(nil, "", "verify")
			}
			stands("alone", tt.last)
			call("alone")
			for family, a := range labAddresses {
				v := map[rules.Family]string{rules.IPv4: "-4", rules.IPv6: "-6"}[family]
				pod.ip(v + " route add default via " + a.peer.String() + " table 200")
				pod.ip(v + " rule add from " + a.pod.String() + " lookup 200 pref 5270")
			}
			verify() // what came in front is not drift
			again()
			stands("with a source's rule at 5270", "5269")
			call("with a source's rule at 5270")
			verify()
			again()
			stands("applied again", "5269")
			pod.ip("-6 rule add pref 100 lookup 200")
			again()
			stands("with one for IPv6 at 100", "99")
			call("with one for IPv6 at 100")
			pod.ip("-6 rule del pref 100")
			pod.ip("-4 rule del pref 5270")
			again()
			stands("though they are gone", "99")
			verify()
			pod.ip("-4 rule del pref 99")
			again()
			stands("put back", "99")
			call("put back")
			pod.ip("-4 rule add pref 1 lookup 200")
			again()
			stands("after the local table's alone", "0")
			call("after the local table's alone")
			verify()
			pod.weir(nil, "", "remove")
			for _, family := range []string{"-4", "-6"} {
				if at := pod.placesOf(family); len(at) != 0 {
					t.Errorf("removed, weir's rule of %s stands at %v", family, at)
				}
			}
		})
	}
}
