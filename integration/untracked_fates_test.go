// SPDX-License-Identifier: Apache-2.0

//go:build linux

package integration

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"testing"

	"github.com/weir-mesh/weir/internal/istio"
	"github.com/weir-mesh/weir/internal/lab"
	"github.com/weir-mesh/weir/internal/scratch"
	"github.com/weir-mesh/weir/modes"
)

// fateMark is on the sockets of the marking proxy whose fates are compared: none of the marks
// that probes of the tables carry.
const fateMark = 0x7a1

// TestUntrackedFates gives every sidecar configuration of the conformance tables to a capture
// without connection tracking and a proxy that marks its sockets: every probe lands where it
// lands with the reference, and the listener recovers the same destination.
func TestUntrackedFates(t *testing.T) {
	needUsers(t)
	isolated(t)
	probes, root := loadProbes(t), podRoot(t)
	for _, table := range sidecarTables(t) {
		t.Run(table.Config, func(t *testing.T) {
			t.Parallel()
			untrackedFates(t, root, withFates(t, table), probes)
		})
	}
}

// listensOn are the ports that the configuration of a table has the proxy listen on.
func listensOn(t *testing.T, table *lab.Table) (ports []uint16) {
	a, err := istio.Parse(table.Args, func(name string) (string, bool) { v, set := table.Env[name]; return v, set })
	if err != nil {
		t.Fatal(err)
	}
	c, err := a.Config(modes.Environment{})
	if err != nil {
		t.Fatal(err)
	}
	for _, word := range []modes.PortWord{c.Inbound.Port, c.Outbound.Port} {
		if n, err := strconv.ParseUint(string(word), 10, 16); err == nil {
			ports = append(ports, uint16(n))
		}
	}
	return ports
}

func untrackedFates(t *testing.T, root string, table *lab.Table, probes []scratch.Probe) {
	proxy := table.Proxy
	proxy.Mark = fateMark
	pod, err := lab.NewTransparentPod(t.Context(), proxy, listensOn(t, table)...)
	if err != nil {
		t.Fatal(err)
	}
	defer pod.Close()
	for _, s := range []string{"net/ipv4/tcp_fwmark_accept", "net/ipv4/fwmark_reflect", "net/ipv6/fwmark_reflect"} {
		if err := pod.Sysctl(s, "1"); err != nil {
			t.Fatal(err)
		}
	}
	weir := &cli{chroot: root, env: append(environ(table), "WEIR_CONNTRACK=none", fmt.Sprintf("WEIR_PROXY_MARK=%#x/0xfff", fateMark))}
	cmd, _, errs := weir.command("", append([]string{"istio-init"}, table.Args...)...)
	if err := pod.Do(cmd.Run); err != nil {
		refused := regexp.MustCompile(`WEIR_CONNTRACK: .*none.* does not go with (--drop-invalid|ISTIO_OUTBOUND_OWNER_GROUPS)`)
		if !refused.MatchString(errs.String()) {
			t.Fatalf("%s: %v\n%s", cmd, err, errs)
		}
		t.Logf("refused: %s", refused.FindString(errs.String()))
		return
	}
	marked := slices.Clone(probes)
	for i, p := range marked {
		if p.Mark == 0 && p.Namespace == "pod" && p.UID == proxy.UID && p.GID == proxy.GID {
			marked[i].Mark = fateMark
		}
	}
	got, err := lab.RunProbes(t.Context(), pod, marked)
	if err != nil {
		t.Fatal(err)
	}
	flows, err := pod.Conntrack()
	if err != nil || len(flows) > 0 {
		t.Errorf("conntrack has %d entries, %v", len(flows), err)
	}
	byID := map[string]scratch.Probe{}
	for _, p := range probes {
		byID[p.ID] = p
	}
	reasons := map[string]int{}
	wrong := 0
	for _, id := range slices.Sorted(maps.Keys(table.Fates)) {
		want, have := table.Fates[id], got[id]
		want.CT, have.CT = "", ""
		if want == have {
			continue
		}
		if reason := otherFate(table, byID[id], want, have); reason != "" {
			reasons[reason]++
		} else if wrong++; wrong <= 5 {
			t.Errorf("%s\n  want  %s\n  got   %s", id, want, have)
		}
	}
	if wrong > 5 {
		t.Errorf("%d fates are others", wrong)
	}
	for _, reason := range slices.Sorted(maps.Keys(reasons)) {
		t.Logf("%d: %s", reasons[reason], reason)
	}
}

// tunnelOf is the port of the tunnel listener.
func tunnelOf(table *lab.Table) uint16 {
	if i := slices.Index(table.Args, "-e"); i >= 0 {
		n, _ := strconv.ParseUint(table.Args[i+1], 10, 16)
		return uint16(n)
	}
	return 15008
}

// otherFate is why a probe fares otherwise than with the reference, "" where it must not.
func otherFate(table *lab.Table, p scratch.Probe, want, have scratch.Fate) string {
	tproxy := slices.Contains(table.Args, "TPROXY") || slices.Contains(table.Args, "--istio-inbound-interception-mode=TPROXY")
	dns := p.DPort == 53
	switch {
	case want.Land == "timeout" && have.Land == "pod:8080" && p.Spoof:
		return "a call with a client's address is answered, which REDIRECT loses"
	case tproxy && p.Mark != 0:
		return "the probe has the reference's own marks, which route it there and mean nothing here"
	case tproxy && p.DPort == tunnelOf(table) && want.Land == "pod:15006":
		return "the tunnel listener is reached as it is, where the reference's TPROXY captures it"
	case want.Land == "pod:15006" && p.GID == table.Proxy.GID && p.UID != table.Proxy.UID && (tproxy || dns):
		return "who is the proxy by group alone reaches its own pod as it is, as with REDIRECT"
	case dns && tproxy && want.Land == "pod:15006":
		return "the proxy's own queries to its own pod stay as they are, as with REDIRECT"
	case dns && want.Land == "timeout" && have.Land == "pod:15053":
		return "a query is answered though lo is excluded, where the reference's answers get lost"
	case dns && want.Land == "pod:15053" && have.Land == want.Land && have.Orig.Port() == 15053:
		return "a plain DNS listener sees its own address, not the resolver's"
	}
	return ""
}
