// SPDX-License-Identifier: Apache-2.0

//go:build linux

package diagnose

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/weir-mesh/weir/explain"
	"github.com/weir-mesh/weir/internal/scratch"
	"github.com/weir-mesh/weir/rules"
	"github.com/weir-mesh/weir/sim"
)

// compare sends a packet of each class and lists those that land elsewhere.
func (s *scene) compare(ctx context.Context) ([]Check, error) {
	var out []Check
	sent, unsent, unknown := 0, 0, 0
	for _, r := range s.rows {
		if s.evaluator.Evaluate(r.Example, nil).Fate.Kind == sim.Unknown {
			unknown++
			continue
		}
		probe, from, ok := s.probe(s.anyPort(r.Example))
		zoneless := r.Example.Dst.Addr().Is6() && r.Example.Dst.Addr().IsLinkLocalUnicast() // no socket calls it
		if !ok || zoneless {
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
			out = append(out, Check{"traffic", Failed,
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
		out = append(out, Check{"traffic", Passed, finding, ""})
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
	case f.Kind == sim.Dropped || f.Kind == sim.LostInRouting || f.Kind == sim.Rejected:
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
