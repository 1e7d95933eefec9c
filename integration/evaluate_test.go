// SPDX-License-Identifier: Apache-2.0

//go:build linux

package integration

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/weir-mesh/weir/internal/lab"
	"github.com/weir-mesh/weir/internal/scratch"
	"github.com/weir-mesh/weir/netns"
	"github.com/weir-mesh/weir/nft"
	"github.com/weir-mesh/weir/rules"
	"github.com/weir-mesh/weir/sim"
	"golang.org/x/sys/unix"
)

// seenTable is the table of the test's own that notes, after everything else,
// which packets were delivered and which left, with what they carried. Packets
// are known by their source ports; of TCP the first of a connection counts. What
// listeners answer is dropped, here and from the peer: the answer to an answer would pass
// for a packet.
const seenTable = `
table inet seen {
  set came { type inet_service; flags dynamic; size 65535; }
  set in4 { type inet_service . ipv4_addr . inet_service . mark; flags dynamic; size 65535; }
  set in6 { type inet_service . ipv6_addr . inet_service . mark; flags dynamic; size 65535; }
  set in_ct { type inet_service . mark; flags dynamic; size 65535; }
  set in_owner { type inet_service . uid; flags dynamic; size 65535; }
  set out4 { type inet_service . ipv4_addr . inet_service . mark . ifname; flags dynamic; size 65535; }
  set out6 { type inet_service . ipv6_addr . inet_service . mark . ifname; flags dynamic; size 65535; }
  set out_ct { type inet_service . mark; flags dynamic; size 65535; }
  chain ingress { type filter hook ingress devices = { eth0, eth1, nic9 } priority -2147483648
    meta l4proto { tcp, udp } th sport >= 20000 update @came { th sport }
    meta l4proto { tcp, udp } th sport < 20000 drop
  }
  chain answers { type filter hook output priority -2147483648
    meta l4proto { tcp, udp } th sport < 20000 drop
  }
  chain input { type filter hook input priority 2147483646
    tcp sport >= 20000 tcp flags & (syn | ack) == syn goto delivered
    udp sport >= 20000 goto delivered
  }
  chain postrouting { type filter hook postrouting priority 2147483646
    oifname lo return
    tcp sport >= 20000 tcp flags & (syn | ack) == syn goto left
    udp sport >= 20000 goto left
  }
  chain delivered {
    meta nfproto ipv4 update @in4 { th sport . ip daddr . th dport . meta mark }
    meta nfproto ipv6 update @in6 { th sport . ip6 daddr . th dport . meta mark }
    update @in_ct { th sport . ct mark }
    update @in_owner { th sport . meta skuid }
  }
  chain left {
    meta nfproto ipv4 update @out4 { th sport . ip saddr . th dport . meta mark . oifname }
    meta nfproto ipv6 update @out6 { th sport . ip6 saddr . th dport . meta mark . oifname }
    update @out_ct { th sport . ct mark }
  }
}
`

// sighting is what the kernel did with a packet, as far as it shows.
type sighting struct {
	where string // "" is nowhere, else delivered or the interface by which it left
	addr  netip.Addr
	port  rules.Port
	mark  rules.Mark
	ct    string // the connection's mark, "" where it has none
	owner string // of the socket that got it, where that is known early

	unknown bool // the evaluator says that it cannot tell
}

// trial is a pod in which states are tried.
type trial struct {
	*testing.T
	pod   *lab.Pod
	conn  *nft.Conn
	host  sim.Host
	sport uint16

	around surroundings // what the pod holds of others
	tries  int          // how often it is looked whether packets ended as evaluated
}

// A packet that is late, on a busy machine, is waited for. Of a state that is made smaller every
// second one is waited for in vain.
const patientTries, shrinkingTries = 1500, 100

const firstPort = 20000

func newTrial(t *testing.T) *trial {
	pod, err := lab.NewPod(t.Context(), scratch.Identity{UID: 1337, GID: 1337})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := pod.Close(); err != nil {
			t.Error(err)
		}
	})
	keepNeighbours(t, pod)
	tr := &trial{T: t, pod: pod, sport: firstPort, tries: patientTries}
	err = pod.Do(func() (err error) {
		if tr.conn, err = nft.Open(0); err != nil {
			return err
		}
		here := netns.Current()
		defer here.Close()
		tr.host, err = here.Host(t.Context())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tr.conn.Close() })
	tr.host.Sockets = podSockets()
	return tr
}

// keepNeighbours has both ends know each other for as long as the trial takes: once they have to
// ask again, states answer for what they ask too, and datagrams that wait for it are lost.
func keepNeighbours(t *testing.T, pod *lab.Pod) {
	for ns, links := range map[*scratch.Namespace][]string{pod.Namespace: {"eth0", "eth1", "nic9"}, pod.Peer: {"r0", "r1", "r2"}} {
		for _, link := range links {
			for _, family := range []string{"ipv4", "ipv6"} {
				if err := ns.Sysctl("net/"+family+"/neigh/"+link+"/base_reachable_time_ms", fmt.Sprint((24 * time.Hour).Milliseconds())); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

// podSockets are the listeners of package lab's pod.
func podSockets() []sim.Socket {
	var out []sim.Socket
	for _, l := range []struct {
		proto rules.Proto
		owner rules.UID
		ports []uint16
	}{
		{rules.TCP, 1337, []uint16{15001, 15006, 15008, 15020, 15021, 15053, 15090}},
		{rules.UDP, 1337, []uint16{15001, 15053}},
		{rules.TCP, 1000, []uint16{22, 53, 80, 443, 4000, 5000, 6000, 8080, 9080, 31000, 32000}},
		{rules.UDP, 1000, []uint16{53, 443, 8080}},
	} {
		for _, port := range l.ports {
			for _, any := range []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
				out = append(out, sim.Socket{Proto: l.proto, Local: netip.AddrPortFrom(any, port), UID: l.owner, GID: rules.GID(l.owner),
					Transparent: port == 15001 || port == 15006})
			}
		}
	}
	return out
}

// TestEvaluatorAgrees makes states and packets at random, evaluates them, and
// sends the packets through a kernel that holds the state.
func TestEvaluatorAgrees(t *testing.T) {
	needUsers(t)
	isolated(t)
	seed, budget, most := uint64(0), 8*time.Second, math.MaxInt
	if soak {
		budget, most = time.Hour, 2000
	}
	if n, err := strconv.ParseUint(os.Getenv("WEIR_EVALUATE_SEED"), 10, 64); err == nil { // of a soak, the first
		seed = n
		if !soak {
			most = 1
		}
	}
	tr := newTrial(t)
	const packets = 20
	states, surrounded, kinds := 0, 0, map[sim.FateKind]int{}
	for start := time.Now(); states < most && time.Since(start) < budget; seed++ {
		d := dice{rand.New(rand.NewPCG(seed, 0))}
		state := d.state()
		around := otherDice(seed).surroundings()
		if err := tr.surround(around); err != nil {
			t.Fatalf("seed %d: %v\n%s", seed, err, around)
		}
		if around.String() != "" {
			surrounded++
		}
		var sent []sim.Packet
		for range packets {
			sent = append(sent, d.packet(tr.nextPort()))
		}
		for _, k := range tr.disagreements(state, sent, kinds) {
			t.Logf("seed %d: packet %d of %d, %+v", seed, k, packets, sent[k])
			small := tr.shrunk(state, sent[k])
			p := sent[k]
			p.Src = netip.AddrPortFrom(p.Src.Addr(), tr.nextPort())
			want, got, journey := tr.compare(small, p)
			t.Fatalf("seed %d: %s\n%s\nbeside %s\npacket %+v %+v\nevaluated %+v\nseen      %+v\n%+v", seed, small, small.Routing(), tr.around, p, p.Socket, want, got, journey)
		}
		if states++; states%100 == 0 {
			t.Logf("%d states agree, the last of seed %d", states, seed)
		}
	}
	t.Logf("%d states (%d of them beside others' tables, policy rules and settings) with %d packets each agree; fates %v", states, surrounded, packets, kinds)
	if unknown := kinds[sim.Unknown]; unknown*10 > states*packets {
		t.Errorf("the fates of %d packets of %d are unknown", unknown, states*packets)
	}
}

// nextPort tells packets apart. A conntrack entry outlives its packet: ports come
// again only in a table that knows none of them. A listener's is not free.
func (t *trial) nextPort() uint16 {
	t.sport++
	for slices.ContainsFunc(podSockets(), func(s sim.Socket) bool { return s.Local.Port() == t.sport }) {
		t.sport++
	}
	if t.sport > 60000 {
		t.sport = firstPort + 1
		fresh := newTrial(t.T)
		around := t.around
		t.pod, t.conn, t.host, t.around = fresh.pod, fresh.conn, fresh.host, surroundings{}
		if err := t.surround(around); err != nil {
			t.Fatal(err)
		}
	}
	return t.sport
}

// disagreements are the packets that the kernel treats otherwise than evaluated.
func (t *trial) disagreements(state rules.State, packets []sim.Packet, kinds map[sim.FateKind]int) []int {
	e := t.evaluator(state)
	want := make([]sighting, len(packets))
	for i, p := range packets {
		f := e.Evaluate(p, nil).Fate
		kinds[f.Kind]++
		want[i] = expected(f)
	}
	got := t.sightings(state, packets, want)
	var out []int
	for i := range packets {
		if want[i] != got[i] && !want[i].unknown {
			t.Logf("evaluated %+v\nseen      %+v", want[i], got[i])
			out = append(out, i)
		}
	}
	return out
}

// evaluator is for packets that meet the state and the table that notes them, of
// which it matters alone that it reads connections.
func (t *trial) evaluator(state rules.State) *sim.Evaluator {
	seen := &rules.Chain{Name: "seen"}
	seen.Add("", rules.CTMark.Is(0))
	return sim.NewEvaluator(t.host.With(state), append(t.around.tables(state.Table), sim.Table{Table: &rules.Table{Chains: []*rules.Chain{seen}}})...)
}

func (t *trial) compare(state rules.State, p sim.Packet) (want, got sighting, j sim.Journey) {
	j = t.evaluator(state).Evaluate(p, nil)
	want = expected(j.Fate)
	return want, t.sightings(state, []sim.Packet{p}, []sighting{want})[0], j
}

// shrunk is the state with every chain and rule taken out that the disagreement
// can do without.
func (t *trial) shrunk(state rules.State, p sim.Packet) rules.State {
	t.tries = shrinkingTries
	differs := func(s rules.State) bool {
		p.Src = netip.AddrPortFrom(p.Src.Addr(), t.nextPort())
		want, got, _ := t.compare(s, p)
		return want != got && !want.unknown
	}
	for {
		less := t.around
		if i := slices.IndexFunc(less.smaller(), func(s surroundings) bool { return t.surround(s) == nil && differs(state) }); i >= 0 {
			continue // it stays as it was tried
		}
		if err := t.surround(less); err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(smaller(state), func(s rules.State) bool { return s.Check() == nil && differs(s) })
		if i < 0 {
			return state
		}
		state = smaller(state)[i]
	}
}

// smaller are the states with one rule less.
func smaller(s rules.State) []rules.State {
	var out []rules.State
	for c, chain := range s.Table.Chains {
		for r := range chain.Rules {
			out = append(out, without(s, c, r))
		}
	}
	return out
}

// without is the state less one rule; a chain's last takes a base chain along.
func without(s rules.State, chain, rule int) rules.State {
	t := *s.Table
	t.Chains = slices.Clone(t.Chains)
	c := *t.Chains[chain]
	c.Rules = slices.Delete(slices.Clone(c.Rules), rule, rule+1)
	t.Chains[chain] = &c
	if len(c.Rules) == 0 && c.Base != nil {
		t.Chains = slices.Delete(t.Chains, chain, chain+1)
	}
	s.Table = &t
	return s
}

// expected is how a fate shows.
func expected(f sim.Fate) sighting {
	if f.Kind >= sim.Dropped {
		return sighting{unknown: f.Kind == sim.Unknown}
	}
	s := sighting{where: "delivered", addr: f.Dst.Addr(), port: rules.Port(f.Dst.Port()), mark: f.Mark}
	if f.Tracked {
		s.ct = fmt.Sprint(f.CTMark)
	}
	if !f.Here {
		s.where, s.addr = f.Out, f.Src.Addr()
	} else if f.Kind == sim.Proxied && f.Socket != nil {
		s.owner = fmt.Sprint(f.Socket.UID)
	}
	return s
}

// sightings applies a state, sends packets and reads what became of them. What
// is on its way is waited for a moment.
func (t *trial) sightings(state rules.State, packets []sim.Packet, want []sighting) []sighting {
	t.Helper()
	if err := t.set(state); err != nil {
		t.Fatalf("%s: %v", state, err)
	}
	var arriving []uint16
	for _, p := range packets {
		t.send(p)
		if p.In != "" {
			arriving = append(arriving, p.Src.Port())
		}
	}
	var got []sighting
	const longest = 20
	for try := range t.tries {
		time.Sleep(time.Duration(min(try, longest)) * time.Millisecond)
		came, seen := t.read()
		got = got[:0]
		for _, p := range packets {
			got = append(got, seen[p.Src.Port()])
		}
		if !slices.ContainsFunc(arriving, func(port uint16) bool { return !came[port] }) && agree(got, want) {
			break
		}
	}
	return got
}

// agree reports whether what was seen is what was evaluated, as far as that is known.
func agree(got, want []sighting) bool {
	return slices.EqualFunc(got, want, func(g, w sighting) bool { return w.unknown || g == w })
}

// set makes the pod hold the state, and nothing of what was seen before.
func (t *trial) set(state rules.State) error {
	session := t.conn.Session(tableName, "test")
	if _, err := session.Remove(t.Context()); err != nil {
		return err
	}
	if _, err := session.Apply(t.Context(), state); err != nil {
		return err
	}
	script := "table inet seen\ndelete table inet seen\n"
	for _, f := range t.around.after {
		script += fmt.Sprintf("table %s\ndelete table %s\n%s", f.title(), f.title(), f.text())
	}
	return t.pod.Do(func() error { return t.load(script + seenTable) })
}

// send sends a packet's first datagram or SYN, whatever becomes of it.
func (t *trial) send(p sim.Packet) {
	t.Helper()
	ns, from := t.pod.Namespace, scratch.Identity{}
	if p.In != "" {
		ns = t.pod.Peer
	} else {
		from = scratch.Identity{UID: uint32(p.Socket.UID), GID: uint32(p.Socket.GID), Mark: uint32(p.Mark)}
	}
	err := ns.DoAs(from.UID, from.GID, func() error { return sendFirst(p, from.Mark) })
	if err != nil && !errors.Is(err, unix.EINPROGRESS) && !slices.ContainsFunc(refusals, func(e error) bool { return errors.Is(err, e) }) {
		t.Fatalf("%+v: %v", p, err)
	}
}

// refusals are what a sender is told of a packet that the rules or the routes
// stopped, or that was not accepted.
var refusals = []error{unix.EPERM, unix.ENETUNREACH, unix.EHOSTUNREACH, unix.ECONNREFUSED, unix.EINVAL, unix.EACCES}

func sendFirst(p sim.Packet, mark uint32) error {
	family, typ := unix.AF_INET, unix.SOCK_DGRAM
	from := unix.Sockaddr(&unix.SockaddrInet4{Port: int(p.Src.Port())})
	to := unix.Sockaddr(&unix.SockaddrInet4{Port: int(p.Dst.Port()), Addr: as4(p.Dst.Addr())})
	if p.Dst.Addr().Is6() {
		family = unix.AF_INET6
		from = &unix.SockaddrInet6{Port: int(p.Src.Port())}
		to = &unix.SockaddrInet6{Port: int(p.Dst.Port()), Addr: p.Dst.Addr().As16()}
	}
	if p.Src.Addr().IsValid() && p.Src.Addr().Is4() {
		from = &unix.SockaddrInet4{Port: int(p.Src.Port()), Addr: p.Src.Addr().As4()}
	} else if p.Src.Addr().IsValid() {
		from = &unix.SockaddrInet6{Port: int(p.Src.Port()), Addr: p.Src.Addr().As16()}
	}
	if p.Proto == rules.TCP {
		typ = unix.SOCK_STREAM
	}
	fd, err := unix.Socket(family, typ|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if mark != 0 {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, int(mark)); err != nil {
			return err
		}
	}
	if err := unix.Bind(fd, from); err != nil {
		return fmt.Errorf("bind: %w", err)
	}
	if err := unix.Connect(fd, to); err != nil || p.Proto == rules.TCP {
		return err
	}
	_, err = unix.Write(fd, []byte("x"))
	return err
}

func as4(a netip.Addr) (out [4]byte) {
	if a.Is4() {
		return a.As4()
	}
	return out
}

// read is what the test's table saw: which source ports came by an interface,
// and of each what became of it.
func (t *trial) read() (came map[uint16]bool, seen map[uint16]sighting) {
	t.Helper()
	live, err := t.conn.Ruleset(context.WithoutCancel(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	table := live.Find("inet", "seen")
	came, seen = map[uint16]bool{}, map[uint16]sighting{}
	note := func(set string, change func(*sighting, []rules.Bits)) {
		for _, e := range table.Set(set).Elements {
			var key []rules.Bits
			for _, r := range e.Key {
				key = append(key, r.Lo)
			}
			port := uint16(key[0].Uint64())
			s := seen[port]
			change(&s, key)
			seen[port] = s
		}
	}
	fill := func(s *sighting, key []rules.Bits) {
		s.addr, _ = netip.AddrFromSlice([]byte(key[1]))
		s.port, s.mark = rules.Port(key[2].Uint64()), rules.Mark(key[3].Uint64())
		s.where = "delivered"
		if len(key) > 4 {
			s.where = strings.TrimRight(string(key[4]), "\x00")
		}
	}
	for _, set := range []string{"in4", "in6", "out4", "out6"} {
		note(set, fill)
	}
	for _, set := range []string{"in_ct", "out_ct"} {
		note(set, func(s *sighting, key []rules.Bits) { s.ct = fmt.Sprint(rules.Mark(key[1].Uint64())) })
	}
	note("in_owner", func(s *sighting, key []rules.Bits) { s.owner = fmt.Sprint(key[1].Uint64()) })
	for _, e := range table.Set("came").Elements {
		came[uint16(e.Key[0].Lo.Uint64())] = true
	}
	return came, seen
}
