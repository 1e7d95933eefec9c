// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weir-mesh/weir/internal/istio"
	"github.com/weir-mesh/weir/internal/lab"
	"github.com/weir-mesh/weir/internal/scratch"
	"github.com/weir-mesh/weir/modes"
	"github.com/weir-mesh/weir/netns"
	"github.com/weir-mesh/weir/rules"
	"github.com/weir-mesh/weir/sim"
)

const conformanceTables = "../../integration/testdata/conformance"

// The lab's addresses, as package lab gives them.
var (
	podLinks  = []string{"eth0", "eth1", "nic9"}
	podIPv4   = []string{"198.18.0.2/24", "198.18.1.2/24", "198.18.2.2/24"}
	podIPv6   = []string{"2001:db8:18::2/64", "2001:db8:19::2/64", "2001:db8:20::2/64"}
	peerIPv4  = []string{"198.18.0.1", "198.18.1.1", "198.18.2.1"}
	peerIPv6  = []string{"2001:db8:18::1", "2001:db8:19::1", "2001:db8:20::1"}
	behindPod = []string{"10.4.0.0/16", "9.9.0.0/16", "2001:db8:99::/48"} // by eth1
)

// labHost is the pod of package lab, with its listeners.
func labHost(proxy scratch.Identity) sim.Host {
	var links []sim.Link
	for i, name := range podLinks {
		links = append(links, sim.Link{Name: name, Addresses: []netip.Prefix{netip.MustParsePrefix(podIPv4[i]), netip.MustParsePrefix(podIPv6[i])}})
	}
	h := sim.NewHost(links...)
	for i := range h.Links {
		h.Links[i].Forwards = []rules.Family{rules.IPv4, rules.IPv6}
	}
	h.Routes = append(h.Routes,
		sim.Route{Table: rules.MainTable, Dst: netip.MustParsePrefix("0.0.0.0/0"), Type: rules.Unicast, Out: "eth0"},
		sim.Route{Table: rules.MainTable, Dst: netip.MustParsePrefix("::/0"), Type: rules.Unicast, Out: "eth0"})
	listen := func(proto rules.Proto, by scratch.Identity, ports ...uint16) {
		for _, port := range ports {
			for _, any := range []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
				h.Sockets = append(h.Sockets, sim.Socket{Proto: proto, Local: netip.AddrPortFrom(any, port), Transparent: port == 15001 || port == 15006,
					UID: rules.UID(by.UID), GID: rules.GID(by.GID), Mark: rules.Mark(by.Mark)})
			}
		}
	}
	app := scratch.Identity{UID: 1000, GID: 1000}
	listen(rules.TCP, proxy, 15001, 15006, 15008, 15020, 15021, 15053, 15090)
	listen(rules.UDP, proxy, 15001, 15053)
	listen(rules.TCP, app, 22, 53, 80, 443, 4000, 5000, 6000, 8080, 9080, 31000, 32000)
	listen(rules.UDP, app, 53, 443, 8080)
	return h
}

// tableState is the state that a table's configuration asks for in the lab.
func tableState(t *testing.T, table *lab.Table) rules.State {
	t.Helper()
	c, env := tableConfig(t, table)
	state, _, err := modes.State(c, env)
	if err != nil {
		t.Fatal(err)
	}
	return state
}

// tableConfig is a table's configuration, and the lab's environment.
func tableConfig(t *testing.T, table *lab.Table) (modes.Config, modes.Environment) {
	t.Helper()
	env := modes.Environment{LoopbackIPv6: true, Groups: map[string]uint32{"root": 0, "mail": 8}, Users: map[string]uint32{"root": 0},
		Resolvers: labResolvers()}
	if table.Mode == "sidecar" {
		return sidecarConfig(t, table, env), env
	}
	return ambientConfig(table.Args), env
}

// labResolvers are those of lab.ResolvConf.
func labResolvers() (out []netip.Addr) {
	for line := range strings.Lines(lab.ResolvConf) {
		out = append(out, netip.MustParseAddr(strings.TrimSpace(strings.TrimPrefix(line, "nameserver "))))
	}
	return out
}

// ambientConfig is what the arguments of an ambient table mean.
func ambientConfig(args []string) modes.Config {
	c := modes.Config{Mode: modes.ModeAmbientPod, IPv6: "enabled"}
	for i, arg := range args {
		switch arg {
		case "--v6=false":
			c.IPv6 = "disabled"
		case "--dns":
			c.DNS.Capture = "all"
		case "--ingress":
			c.Inbound.Via = "none"
		case "--virt":
			c.Interfaces.Reroute = append(c.Interfaces.Reroute, modes.Rerouted{Name: args[i+1]})
		}
	}
	return c
}

// sidecarConfig is what istio-init's arguments mean in the lab.
func sidecarConfig(t *testing.T, table *lab.Table, env modes.Environment) modes.Config {
	t.Helper()
	for name, value := range table.Env {
		t.Setenv(name, value)
	}
	a, err := istio.Parse(table.Args, os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	c, err := a.Config(env)
	if err != nil {
		t.Fatal(err)
	}
	var addresses []netns.Address
	for i, text := range slices.Concat(podIPv4, podIPv6) {
		addresses = append(addresses, netns.Address{Prefix: netip.MustParsePrefix(text), Index: 2 + i%len(podIPv4)})
	}
	c.IPv6 = "disabled"
	if a.HasIPv6(addresses) {
		c.IPv6 = "enabled"
	}
	return c
}

// probePacket is a probe as it comes into the pod.
func probePacket(p scratch.Probe) sim.Packet {
	out := sim.Packet{Proto: rules.UDP, Src: netip.AddrPortFrom(p.Src, p.SPort), Dst: netip.AddrPortFrom(p.Dst, p.DPort)}
	if p.Proto == "tcp" {
		out.Proto = rules.TCP
	}
	if p.Namespace == "pod" {
		out.Mark = rules.Mark(p.Mark)
		out.Socket = &sim.Socket{Proto: out.Proto, UID: rules.UID(p.UID), GID: rules.GID(p.GID), Mark: out.Mark, Transparent: p.Spoof}
		return out
	}
	link := fromPeer(p.Dst)
	from := peerIPv4
	if p.Dst.Is6() {
		from = peerIPv6
	}
	out.In, out.Src = podLinks[link], netip.AddrPortFrom(netip.MustParseAddr(from[link]), p.SPort)
	return out
}

// fromPeer is the link by which the peer reaches an address.
func fromPeer(dst netip.Addr) int {
	for _, behind := range behindPod {
		if netip.MustParsePrefix(behind).Contains(dst) {
			return 1
		}
	}
	return slices.IndexFunc(slices.Concat(podIPv4, podIPv6), func(own string) bool { return netip.MustParsePrefix(own).Contains(dst) }) % len(podIPv4)
}

// fate is an exchange in the words of a table.
func fate(p scratch.Probe, x sim.Exchange, seen sim.Tracker) scratch.Fate {
	var f scratch.Fate
	first := x.First.Fate
	switch {
	case p.Namespace == "peer" && !first.Here && x.End == sim.Completed:
		f.Land = passedOn(p)
	case x.End == sim.NotSent:
		f.Land = "error:Network is unreachable"
	case x.End == sim.Refused:
		f.Land = "refused"
	case x.End != sim.Completed:
		f.Land = "timeout"
	default:
		f.Land, f.Src = "peer:7000", scratch.SourceKept
		if first.Here {
			f.Land = "pod:" + rules.TCPDport.Type().Format(rules.RangeOf(first.Port).Lo)
		}
		if first.Src != x.First.Packet.Src {
			f.Src = scratch.SourceChanged
		}
		if p.Proto == "tcp" {
			f.Orig = first.Recovered()
		}
	}
	var tracks []string
	for _, c := range seen.Connections() {
		track := scratch.Flow{Mark: uint32(c.Mark), Zone: uint16(c.Zone)}.Track()
		if c.Src.Port() == p.SPort && track != "" && !slices.Contains(tracks, track) {
			tracks = append(tracks, track)
		}
	}
	slices.Sort(tracks)
	f.CT = strings.Join(tracks, ",")
	return f
}

// passedOn is how the peer fares whose packets the pod passes on, back to the
// peer by another link. No rule decides that: they come from an address of its
// own, which its IPv4 takes for a martian, and its IPv6 answers to itself.
func passedOn(p scratch.Probe) string {
	if p.Dst.Is6() {
		return "refused"
	}
	return "timeout"
}

// conformanceTablesOf are all tables.
func conformanceTablesOf(t *testing.T) []*lab.Table {
	t.Helper()
	files, err := filepath.Glob(conformanceTables + "/*.json")
	if err != nil {
		t.Fatal(err)
	}
	var out []*lab.Table
	for _, file := range files {
		if filepath.Base(file) == "probes.json" {
			continue
		}
		table, err := lab.LoadTable(file)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, table)
	}
	return out
}

// TestTruth evaluates every probe of every table, over the state of the table's
// configuration: it ends where the real packet ended.
func TestTruth(t *testing.T) {
	probes, err := lab.LoadProbes(conformanceTables + "/probes.json")
	if err != nil {
		t.Fatal(err)
	}
	tables := conformanceTablesOf(t)
	if len(probes) != 1175 {
		t.Errorf("%d probes, want 1175", len(probes))
	}
	if testing.Short() { // they stand by kinds, so that these are some of each
		var some []scratch.Probe
		for i := 0; i < len(probes); i += 7 {
			some = append(some, probes[i])
		}
		probes = some
	}
	start := time.Now()
	evaluated := 0
	for _, table := range tables {
		t.Run(table.Config, func(t *testing.T) {
			e := sim.EvaluatorOf(tableState(t, table), labHost(table.Proxy))
			wrong := 0
			for _, p := range probes {
				evaluated++
				var seen sim.Tracker
				x := e.Connect(probePacket(p), &seen)
				got, want := fate(p, x, seen), table.Fates[p.ID]
				if got != want {
					wrong++
				}
				if got != want && wrong == 1 {
					t.Errorf("%s\nwant   %s\ngot    %s\nfirst  %+v\nanswer %+v\nnext   %+v", p.ID, want, got, x.First, x.Answer, x.Next)
				}
			}
			if wrong > 0 {
				t.Errorf("%d of %d fates are others", wrong, len(probes))
			}
		})
	}
	if want := 53 * len(probes); len(tables) != 53 || evaluated != want {
		t.Errorf("%d probes of %d tables, want %d of 53", evaluated, len(tables), want)
	}
	t.Logf("%d probes in %s", evaluated, time.Since(start).Round(time.Millisecond))
}
