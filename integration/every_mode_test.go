// SPDX-License-Identifier: Apache-2.0

//go:build linux

package integration

import (
	"strings"
	"testing"
)

// TestEveryMode takes each mode through its life: it is planned, applied, verified,
// shown and removed, and leaves the namespace as it was.
func TestEveryMode(t *testing.T) {
	c := newCLI(t)
	for _, args := range []string{
		"--mode none",
		"--mode sidecar --proxy-uids 1337 --ipv6 disabled",
		"--mode sidecar --proxy-uids 1337 --ipv6 enabled",
		"--mode sidecar --proxy-gids 1337 --inbound-via tproxy",
		"--mode sidecar --proxy-uids 1337 --dns-capture all --drop-invalid=enabled",
		"--mode sidecar --proxy-uids 1337 --dns-capture servers --dns-servers 10.96.0.10 --outbound-exclude-cidrs 10.0.0.0/8,fd00::/8",
		"--mode sidecar --proxy-mark 0x53d/0xfff --inbound-via tproxy --outbound-via tproxy --conntrack none",
		"--mode ambient-pod",
		"--mode ambient-pod --dns-capture all",
		"--mode ambient-host",
	} {
		t.Run(args, func(t *testing.T) {
			n := c.elsewhere(t)
			before := n.holds()
			does := func(verb string, code int) outcome {
				return n.run(append([]string{verb}, strings.Fields(args)...)...).want(t, code)
			}
			planned := does("plan", 0).out
			if args == "--mode none" {
				does("apply", 0).prints(t, "absent")
				return
			}
			if !strings.Contains(planned, "table inet "+tableName) {
				t.Errorf("planned is\n%s", planned)
			}
			does("verify", 3)
			does("apply", 0).prints(t, "created: ")
			does("verify", 0).prints(t, "clean: ")
			does("apply", 0).prints(t, "unchanged: ")
			n.run("show").want(t, 0).prints(t, "as written")
			n.run("remove").want(t, 0).prints(t, "removed: ")
			if d := changed(before, n.holds()); d != "" {
				t.Errorf("after all this remains:\n%s", d)
			}
		})
	}
}
