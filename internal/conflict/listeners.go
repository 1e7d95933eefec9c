// SPDX-License-Identifier: Apache-2.0

package conflict

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/weir-mesh/weir/modes"
	"github.com/weir-mesh/weir/rules"
	"github.com/weir-mesh/weir/sim"
)

// target is a port that captured traffic goes to.
type target struct {
	port        rules.Port
	proto       rules.Proto
	family      rules.Family
	transparent bool // the socket must be
	traffic     traffic
	packet      sim.Packet   // one of them
	at          []netip.Addr // where it arrives
}

// targets are where the classes of captured traffic go.
func (j *judge) targets() (out []*target) {
	for _, c := range j.classes() {
		f := j.fate(c.packet)
		if f.Kind != sim.Redirected && f.Kind != sim.Proxied {
			continue
		}
		i := slices.IndexFunc(out, func(t *target) bool { return t.port == f.Port && t.proto == c.packet.Proto && t.family == c.family })
		if i < 0 {
			i, out = len(out), append(out, &target{port: f.Port, proto: c.packet.Proto, family: c.family, packet: c.packet})
		}
		out[i].transparent = out[i].transparent || f.Kind == sim.Proxied
		out[i].traffic.add(c)
		if at := f.Dst.Addr(); (f.Kind == sim.Redirected || c.packet.In != "") && !slices.Contains(out[i].at, at) {
			out[i].at = append(out[i].at, at)
		}
	}
	return out
}

// listeners judges the sockets where captured traffic goes.
func (j *judge) listeners() (out []Conflict) {
	if j.seen.NoSockets {
		return nil
	}
	var deaf []*target
	all := j.targets()
	for _, t := range all {
		heard := j.listening(t)
		where := fmt.Sprintf("%s port %d", protoName(t.proto), t.port)
		c := Conflict{Subject: where, Traffic: t.traffic.words()}
		switch {
		case len(heard) == 0 && t.family == rules.IPv6 && slices.ContainsFunc(all, func(o *target) bool {
			return o.port == t.port && o.proto == t.proto && o.family == rules.IPv4 && len(j.listening(o)) > 0
		}):
			c.Kind = OneFamily
			c.Does = fmt.Sprintf("is listened on over IPv4 alone: %s finds no listener", list(c.Traffic))
			c.Remedy = "have the proxy listen on both families ([::] without IPV6_V6ONLY, or a listener more), or ipv6: disabled in the configuration"
		case len(heard) == 0 && t.family == rules.IPv4 && slices.ContainsFunc(all, func(o *target) bool {
			return o.port == t.port && o.proto == t.proto && o.family == rules.IPv6 && len(j.listening(o)) > 0
		}):
			c.Kind = OneFamily
			c.Does = fmt.Sprintf("is listened on over IPv6 alone: %s finds no listener", list(c.Traffic))
			c.Remedy = "have the proxy listen on both families"
		case len(heard) == 0 && len(j.onPort(t)) > 0:
			c.Kind = NoListener
			c.Does = fmt.Sprintf("is listened on over %s at %s alone, and %s comes to %s: it is refused", familyNames[t.family], list(localsOf(j.onPort(t))), list(c.Traffic), list(texts(t.at)))
			c.Remedy = "have the proxy listen on all addresses"
		case len(heard) == 0:
			deaf = append(deaf, t)
			continue
		case t.transparent && !slices.ContainsFunc(heard, func(s sim.Socket) bool { return s.Transparent }):
			c.Kind = NotTransparent
			c.Does = fmt.Sprintf("is listened on over %s without IP_TRANSPARENT: %s is dropped", familyNames[t.family], list(c.Traffic))
			c.Remedy = "have the proxy set IP_TRANSPARENT on its listener (envoy: transparent: true), or inbound.via: redirect"
		case t.proto == rules.TCP && j.answersAreCaptured(t, heard):
			mark, mask, _ := ProxyMark(j.want)
			c.Kind = Unmarked
			c.Does = fmt.Sprintf("is listened on over %s without the proxy's mark, %s: its answers are captured in their turn, and do not reach the clients of %s", familyNames[t.family], modes.MarkText(mark, mask), list(c.Traffic))
			c.Remedy = "have the proxy set SO_MARK on its listener; on a host, proxy.cgroups with assignMark: enabled sets it"
		case !j.proxyOwns(heard):
			c.Kind, c.Takes = ForeignListener, true
			c.Does = fmt.Sprintf("is held over %s by user %d, which is not the proxy's: it gets %s", familyNames[t.family], heard[0].UID, list(c.Traffic))
			c.Remedy = fmt.Sprintf("end the process of user %d that listens there, or name its user in proxy.uids if it is the proxy", heard[0].UID)
		default:
			continue
		}
		out = append(out, c)
	}
	if len(deaf) > 0 {
		out = append(out, unheard(deaf))
	}
	return out
}

// answersAreCaptured reports whether what the sockets answer does not come to where it
// would with the proxy's mark, which without connection tracking each packet has to have.
func (j *judge) answersAreCaptured(t *target, heard []sim.Socket) bool {
	mark, mask, untracked := ProxyMark(j.want)
	if !untracked || slices.ContainsFunc(heard, func(s sim.Socket) bool { return s.Mark&mask == mark }) {
		return false
	}
	completes := func(mark rules.Mark) bool {
		h := j.host.With(j.want)
		h.Sockets = slices.Clone(h.Sockets)
		for i := range h.Sockets {
			h.Sockets[i].Mark = mark
		}
		return sim.NewEvaluator(h, sim.Table{Table: j.want.Table}).Connect(t.packet, nil).End == sim.Completed
	}
	return completes(mark) && !completes(heard[0].Mark)
}

// ProxyMark is the mark of the proxy's packets where a state captures without connection
// tracking; false where it does not. Of one that was read from the kernel, the policy rules
// tell: those for the proxy's mark alone go on to another.
func ProxyMark(s rules.State) (mark, mask rules.Mark, untracked bool) {
	if s.Untracked {
		return s.ProxyMark, s.ProxyMask, true
	}
	for _, r := range s.PolicyRules {
		if r.Goto != 0 {
			return r.Mark, r.Mask, true
		}
	}
	return 0, 0, false
}

// unheard are ports without a listener, in one conflict.
func unheard(targets []*target) Conflict {
	var ports []string
	var all traffic
	lost := map[string]bool{}
	for _, t := range targets {
		text := fmt.Sprintf("%s port %d", protoName(t.proto), t.port)
		if !slices.Contains(ports, text) {
			ports = append(ports, text)
		}
		all.join(t.traffic)
		lost[map[bool]string{true: "dropped", false: "refused"}[t.transparent]] = true
	}
	traffic := all.words()
	return Conflict{Kind: NoListener, Subject: "no listener on " + list(ports), Traffic: traffic,
		Does:   fmt.Sprintf("yet: until the proxy listens, this is %s: %s", strings.Join(slices.Sorted(maps.Keys(lost)), " or "), list(traffic)),
		Remedy: "start the proxy; what runs before it, such as an init container, needs its user, ports or addresses excluded, or the proxy as a native sidecar"}
}

// listening are the sockets that can take the target's traffic, none where some of it finds none.
func (j *judge) listening(t *target) []sim.Socket {
	all := j.onPort(t)
	takes := func(s sim.Socket, at netip.Addr) bool {
		return s.Local.Addr().IsUnspecified() || s.Local.Addr() == at
	}
	for _, at := range t.at {
		if !slices.ContainsFunc(all, func(s sim.Socket) bool { return takes(s, at) }) {
			return nil
		}
	}
	return all
}

// localsOf are the addresses that sockets listen at.
func localsOf(all []sim.Socket) []string {
	var out []netip.Addr
	for _, s := range all {
		out = append(out, s.Local.Addr())
	}
	return texts(out)
}

func texts(all []netip.Addr) (out []string) {
	for _, a := range all {
		if !slices.Contains(out, a.String()) {
			out = append(out, a.String())
		}
	}
	return out
}

// onPort are the sockets that listen on the target's port in its family.
func (j *judge) onPort(t *target) (out []sim.Socket) {
	for _, s := range j.seen.Sockets {
		if s.Proto == t.proto && !s.Remote.IsValid() && rules.Port(s.Local.Port()) == t.port && rules.AddressFamily(s.Local.Addr()) == t.family {
			out = append(out, s)
		}
	}
	return out
}

// proxyOwns reports whether one of the sockets is of a user that the rules take for the
// proxy's, or of root, as which a transparent proxy may run; true where the rules go by
// no user.
func (j *judge) proxyOwns(sockets []sim.Socket) bool {
	users := j.proxyUsers()
	return len(users) == 0 || slices.ContainsFunc(sockets, func(s sim.Socket) bool {
		id := rules.RangeOf(s.UID).Lo
		return s.UID == 0 || slices.ContainsFunc(users, func(r rules.Range) bool { return r.Lo <= id && id <= r.Hi })
	})
}

func protoName(p rules.Proto) string {
	if p == rules.UDP {
		return "UDP"
	}
	return "TCP"
}
