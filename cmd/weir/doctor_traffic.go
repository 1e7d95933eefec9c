package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/weir-mesh/weir/sim"

	"github.com/weir-mesh/weir/config"
	"github.com/weir-mesh/weir/explain"
	"github.com/weir-mesh/weir/internal/scratch"
	"github.com/weir-mesh/weir/internal/version"
	"github.com/weir-mesh/weir/modes"
	"github.com/weir-mesh/weir/nft"
	"github.com/weir-mesh/weir/rules"
	"github.com/weir-mesh/weir/sim/survey"
)

// traffic applies a configuration in scratch namespaces with stand-in listeners,
// sends a real connection or datagram of each class that explain --all tells
// apart, and compares where it lands.
func (j *job) traffic(ctx context.Context, c *config.File) ([]check, error) {
	env, err := j.assumedEnvironment(ctx, c.Lookups())
	if err != nil {
		return nil, err
	}
	state, err := j.wanted(c, env)
	if err != nil {
		return nil, err
	}
	want := explain.Rules{State: state, Listeners: modes.PortNames(c.Config)}
	space, err := survey.New(explain.Pod(), state)
	if err != nil {
		return nil, err
	}
	s := &scene{state: state, host: space.Host, evaluator: sim.EvaluatorOf(state, space.Host), names: want.Listeners}
	if s.rows, err = want.Classes(explain.Pod()); err != nil {
		return nil, err
	}
	defer s.close()
	if err := inOrder(ctx, s.settle, s.join); err != nil {
		return cannotBeMade(err), ctx.Err()
	}
	if err := s.apply(ctx); err != nil {
		return []check{{"traffic", failed, fmt.Sprintf("the configuration cannot be applied: %v", err),
			"what the checks above say; weir plan shows the rules"}}, ctx.Err()
	}
	if err := inOrder(ctx, s.listen, s.ready); err != nil {
		return cannotBeMade(err), ctx.Err()
	}
	return s.compare(ctx)
}

func cannotBeMade(err error) []check {
	return []check{{"traffic", skipped, fmt.Sprintf("the scratch namespaces cannot be made: %v", err),
		"root, or a user namespace with the users of the configuration"}}
}

func inOrder(ctx context.Context, steps ...func(context.Context) error) error {
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// scene is a pod with the configuration in force, and the rest of the world.
type scene struct {
	state      rules.State
	host       sim.Host
	evaluator  *sim.Evaluator
	names      map[rules.Port]string // of the proxy's listeners
	rows       []explain.Class
	pod, world *scratch.Namespace
	servers    []*scratch.Server
}

const (
	inPod        = "pod"
	inWorld      = "world"
	worldPort    = 7000
	standInUser  = 1000                   // of the applications' listeners
	answerPause  = 3 * time.Second        // for the answer that is to come
	silencePause = 300 * time.Millisecond // where none is to
	readyPause   = 5 * time.Second
)

func (s *scene) close() {
	for _, server := range s.servers {
		_ = server.Close()
	}
	for _, ns := range []*scratch.Namespace{s.pod, s.world} {
		if ns != nil {
			_ = ns.Close() // the kernel takes it away with the program at the latest
		}
	}
}

// settle makes both namespaces. They take packets wherever they come from, as the
// model assumes, and the pod has what the state needs.
func (s *scene) settle(context.Context) (err error) {
	if s.pod, err = scratch.NewNamespace(); err != nil {
		return err
	}
	if s.world, err = scratch.NewNamespace(); err != nil {
		return err
	}
	for _, ns := range []*scratch.Namespace{s.pod, s.world} {
		for _, link := range []string{"all", "default"} {
			if err := ns.Sysctl("net/ipv4/conf/"+link+"/rp_filter", "0"); err != nil {
				return err
			}
		}
	}
	for _, c := range s.state.Sysctls {
		if err := s.pod.Sysctl(c.Name, c.Value); err != nil {
			return err
		}
	}
	return nil
}

// join links the namespaces by each of the model's interfaces, and routes the rest
// of each one's world through the first.
func (s *scene) join(context.Context) error {
	var links []string
	routed := map[bool]bool{} // by whether it is IPv6
	for i, l := range s.host.Links {
		if l.Name == "lo" {
			continue
		}
		far := fmt.Sprintf("far%d", i)
		links = append(links, far)
		if err := scratch.Veth(s.pod, l.Name, s.world, far); err != nil {
			return err
		}
		for _, a := range l.Addresses {
			if err := errors.Join(s.pod.AddAddress(l.Name, a), s.world.AddAddress(far, neighbour(a))); err != nil {
				return err
			}
		}
		if err := errors.Join(s.pod.Up(l.Name), s.world.Up(far)); err != nil {
			return err
		}
		for _, a := range l.Addresses {
			if is6 := a.Addr().Is6(); !routed[is6] {
				routed[is6] = true
				rest := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
				if is6 {
					rest = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
				}
				if err := errors.Join(s.pod.AddRoute(scratch.Route{Dst: rest, Via: neighbour(a).Addr()}),
					s.world.AddRoute(scratch.Route{Dst: rest, Via: a.Addr()})); err != nil {
					return err
				}
			}
		}
	}
	return s.world.CatchAll(worldPort, links...)
}

// neighbour is another address of the prefix.
func neighbour(a netip.Prefix) netip.Prefix {
	first := a.Masked().Addr().Next()
	if first == a.Addr() {
		first = first.Next()
	}
	return netip.PrefixFrom(first, a.Bits())
}

func (s *scene) apply(ctx context.Context) error {
	var conn *nft.Conn
	if err := s.pod.Do(func() (err error) { conn, err = nft.Open(0); return err }); err != nil {
		return err
	}
	defer conn.Close()
	if s.state.Table == nil {
		return nil
	}
	_, err := conn.Session(s.state.Table.Name, version.String()).Apply(ctx, s.state)
	return err
}

// listen has the proxy listen where it does, and applications wherever else packets
// are delivered.
func (s *scene) listen(ctx context.Context) error {
	var proxy, applications []uint16
	for p := range s.names {
		proxy = append(proxy, uint16(p))
	}
	for _, r := range s.rows {
		f := s.evaluator.Evaluate(r.Example, nil).Fate
		if f.Here && f.Port != 0 && !slices.Contains(proxy, uint16(f.Port)) && !slices.Contains(applications, uint16(f.Port)) {
			applications = append(applications, uint16(f.Port))
		}
	}
	owner := scratch.Identity{}
	if uids := proxyUIDs(s.state.Table); len(uids) > 0 {
		owner.UID, owner.GID = uids[0].lo, uids[0].lo
	}
	for _, l := range []struct {
		in *scratch.Namespace
		scratch.Listeners
	}{
		{s.pod, scratch.Listeners{Name: inPod, Identity: owner, TCP: proxy, UDP: proxy, Transparent: proxy}},
		{s.pod, scratch.Listeners{Name: inPod, Identity: scratch.Identity{UID: standInUser, GID: standInUser}, TCP: applications, UDP: applications, Transparent: applications}},
		{s.world, scratch.Listeners{Name: inWorld, TCP: []uint16{worldPort}, UDP: []uint16{worldPort}}},
	} {
		server, err := l.Serve(ctx, l.in)
		if err != nil {
			return err
		}
		s.servers = append(s.servers, server)
	}
	return nil
}

// ready waits until packets pass on every link, from the world's side: no rule is in
// their way.
func (s *scene) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyPause)
	defer cancel()
	for _, l := range s.host.Links {
		for _, a := range l.Addresses {
			if l.Name == "lo" {
				continue
			}
			far := scratch.Probe{ID: l.Name, Proto: "udp", Dst: neighbour(a).Addr(), DPort: worldPort}
			if err := far.Await(ctx, s.pod); err != nil {
				return err
			}
		}
	}
	return nil
}

// compare sends a packet of each class and lists those that land elsewhere.
func (s *scene) compare(ctx context.Context) ([]check, error) {
	var out []check
	sent, unsent, unknown := 0, 0, 0
	for _, r := range s.rows {
		if s.evaluator.Evaluate(r.Example, nil).Fate.Kind == sim.Unknown {
			unknown++
			continue
		}
		probe, from, ok := s.probe(s.anyPort(r.Example))
		if !ok {
			unsent++
			continue
		}
		want, pause := s.landing(r.Example), answerPause
		if want == unanswered {
			pause = silencePause
		}
		got, err := probe.Send(ctx, from, pause)
		if err != nil {
			return nil, err
		}
		if slices.Contains(notOpened, got.Land) {
			unsent++
			continue
		}
		sent++
		if !lands(got.Land, want) {
			out = append(out, check{"traffic", failed,
				fmt.Sprintf("%s, %s: %s should end as %s, and ended as %s", r.From, r.To, explain.PacketText(r.Example), want, got.Land),
				"weir explain says which rules decide; weir trace which did"})
		}
	}
	if len(out) == 0 {
		finding := fmt.Sprintf("%d classes of connections and datagrams land where explain --all says", sent)
		if unsent > 0 {
			finding += fmt.Sprintf(" (%d more cannot be sent by a program that hears the answer)", unsent)
		}
		if unknown > 0 {
			finding += fmt.Sprintf(" (of %d more explain does not know where)", unknown)
		}
		out = append(out, check{"traffic", passed, finding, ""})
	}
	return out, nil
}

const unanswered = "no answer"

// notOpened are the ends of packets whose sockets cannot be: who listens has their
// port.
var notOpened = []string{"error:Address already in use", "error:Cannot assign requested address"}

// anyPort leaves the source port to the kernel where it makes no difference.
func (s *scene) anyPort(p sim.Packet) sim.Packet {
	free := p
	free.Src = netip.AddrPortFrom(p.Src.Addr(), 0)
	if s.landing(free) == s.landing(p) {
		return free
	}
	return p
}

// landing is where a packet lands, as the listeners there call themselves.
func (s *scene) landing(p sim.Packet) string {
	switch f := s.evaluator.Evaluate(p, nil).Fate; {
	case f.Kind == sim.Dropped || f.Kind == sim.LostInRouting:
		return unanswered
	case f.Here:
		return fmt.Sprintf("%s:%d", inPod, f.Port)
	}
	return fmt.Sprintf("%s:%d", inWorld, worldPort)
}

func lands(got, want string) bool {
	if want == unanswered {
		return !strings.HasPrefix(got, inPod+":") && !strings.HasPrefix(got, inWorld+":")
	}
	return got == want
}

// probe is a packet as a program sends it that hears the answer; false where none
// can: a packet of another protocol, of the kernel's, of a connection that is open
// already, one from an address that is not the pod's, or one that carries a mark or
// an address that no link brings.
func (s *scene) probe(p sim.Packet) (scratch.Probe, *scratch.Namespace, bool) {
	probe := scratch.Probe{ID: explain.PacketText(p), Proto: explain.ProtoName(p.Proto), Src: p.Src.Addr(), SPort: p.Src.Port(),
		Dst: p.Dst.Addr(), DPort: p.Dst.Port(), Mark: uint32(p.Mark)}
	if p.Proto != rules.TCP && p.Proto != rules.UDP || p.State != 0 || p.CTMark != 0 {
		return probe, nil, false
	}
	probe.Spoof = p.In != ""
	switch own := !probe.Src.IsValid() || s.isOwn(probe.Src); {
	case p.In == "" && own && p.Socket != nil && p.Socket.Cgroups == nil:
		probe.UID, probe.GID, probe.Mark = uint32(p.Socket.UID), uint32(p.Socket.GID), uint32(p.Socket.Mark|p.Mark)
		return probe, s.pod, true
	case p.In != "" && p.Mark == 0 && s.onLink(p.In, p.Dst.Addr()):
		return probe, s.world, true
	}
	return probe, nil, false
}

// isOwn reports whether the address is the pod's.
func (s *scene) isOwn(a netip.Addr) bool {
	return a.IsLoopback() || slices.ContainsFunc(s.state.Addresses, func(p netip.Prefix) bool { return p.Addr() == a }) ||
		slices.ContainsFunc(s.host.Links, func(l sim.Link) bool { return s.onLink(l.Name, a) })
}

// onLink reports whether the address is the pod's on that link.
func (s *scene) onLink(name string, a netip.Addr) bool {
	return slices.ContainsFunc(s.host.Links, func(l sim.Link) bool {
		return l.Name == name && slices.ContainsFunc(l.Addresses, func(p netip.Prefix) bool { return p.Addr() == a })
	})
}
