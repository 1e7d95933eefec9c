// SPDX-License-Identifier: Apache-2.0

//go:build linux

package diagnose

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/weir-mesh/weir/sim"

	"github.com/weir-mesh/weir/explain"
	"github.com/weir-mesh/weir/internal/scratch"
	"github.com/weir-mesh/weir/internal/version"
	"github.com/weir-mesh/weir/nft"
	"github.com/weir-mesh/weir/rules"
	"github.com/weir-mesh/weir/sim/survey"
)

// Traffic applies rules in scratch namespaces with stand-in listeners, sends a real
// connection or datagram of each class that [explain.Rules.Classes] tells apart, and
// compares where it lands. It takes root, or a user namespace with the users that the
// rules name.
func Traffic(ctx context.Context, want explain.Rules) ([]Check, error) {
	state := want.State
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
		return []Check{{"traffic", Failed, fmt.Sprintf("the configuration cannot be applied: %v", err),
			"what the checks above say; weir plan shows the rules"}}, ctx.Err()
	}
	if err := inOrder(ctx, s.listen, s.ready); err != nil {
		return cannotBeMade(err), ctx.Err()
	}
	return s.compare(ctx)
}

func cannotBeMade(err error) []Check {
	return []Check{{"traffic", Skipped, fmt.Sprintf("the scratch namespaces cannot be made: %v", err),
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
	servers    scratch.Servers
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
	_ = s.servers.Close() // it waits, and never fails
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
func (s *scene) listen(ctx context.Context) (err error) {
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
	application := scratch.Identity{UID: standInUser, GID: standInUser}
	s.servers, err = scratch.ServeAll(ctx,
		scratch.Placed{In: s.pod, Listeners: scratch.Listeners{Name: inPod, Identity: owner, TCP: proxy, UDP: proxy, Transparent: proxy}},
		scratch.Placed{In: s.pod, Listeners: scratch.Listeners{Name: inPod, Identity: application, TCP: applications, UDP: applications, Transparent: applications}},
		scratch.Placed{In: s.world, Listeners: scratch.Listeners{Name: inWorld, TCP: []uint16{worldPort}, UDP: []uint16{worldPort}}})
	return err
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
