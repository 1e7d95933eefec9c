//go:build linux

package diagnose

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/weir-mesh/weir/internal/continuity"
	"github.com/weir-mesh/weir/netns"
	"github.com/weir-mesh/weir/rules"
	"github.com/weir-mesh/weir/sim"
)

// examineListeners finds for which of the ports that rules in force hand packets to no
// transparent socket listens.
func (f *Facts) examineListeners(ctx context.Context, ns *netns.Namespace, t *rules.Table) error {
	ports := tproxyPorts(t)
	if len(ports) == 0 {
		return nil
	}
	sockets, err := ns.Sockets(ctx)
	if err != nil {
		return err
	}
	f.listeners = true
	families := []rules.Family{rules.IPv4, rules.IPv6}
	if leavesIPv6Alone(t) {
		families = families[:1]
	}
	for _, family := range families {
		for _, port := range ports {
			if !slices.ContainsFunc(sockets, func(s sim.Socket) bool { return listensFor(s, family, port) }) {
				f.unheard = append(f.unheard, fmt.Sprintf("port %d of %s", port, familyNames[family]))
			}
		}
	}
	return nil
}

var familyNames = map[rules.Family]string{rules.IPv4: "IPv4", rules.IPv6: "IPv6"}

// listensFor reports whether tproxy can hand packets of the family to the socket.
func listensFor(s sim.Socket, f rules.Family, port rules.Port) bool {
	return s.Proto == rules.TCP && !s.Remote.IsValid() && s.Transparent &&
		rules.Port(s.Local.Port()) == port && rules.AddressFamily(s.Local.Addr()) == f
}

// tproxyPorts are those to which the table's rules hand packets. One that drains hands
// none of new connections.
func tproxyPorts(t *rules.Table) (ports []rules.Port) {
	if continuity.IsDraining(t) {
		return nil
	}
	for _, n := range t.Captures() {
		if p, is := n.(rules.TProxy); is && p.Port != 0 && !slices.Contains(ports, p.Port) {
			ports = append(ports, p.Port)
		}
	}
	return ports
}

// leavesIPv6Alone reports whether the table's prerouting chains begin with a rule that
// lets IPv6 go.
func leavesIPv6Alone(t *rules.Table) bool {
	return slices.ContainsFunc(t.Chains, func(c *rules.Chain) bool {
		if c.Base == nil || c.Base.Hook != rules.Prerouting || len(c.Rules) == 0 || len(c.Rules[0].Nodes) == 0 {
			return false
		}
		m, is := c.Rules[0].Nodes[0].(rules.Match)
		return is && !m.Negated && slices.Equal(m.Key, []rules.Selector{rules.NFProto.Selector()}) &&
			len(m.Elements) == 1 && slices.Equal(m.Elements[0].Key, []rules.Range{rules.RangeOf(rules.IPv6)})
	})
}

// listenerChecks look where rules in force hand packets to transparent listeners
// (inbound.via: tproxy). That nothing listens is a note: the proxy may start later.
func listenerChecks(f Facts) []Check {
	const name = "transparent listener"
	switch {
	case !f.listeners:
		return nil
	case len(f.unheard) > 0:
		return []Check{{name, Noted, "nothing listens with IP_TRANSPARENT on " + strings.Join(f.unheard, " and ") + ": new connections that come in are dropped there",
			"start the proxy; have it listen on both families, with IP_TRANSPARENT"}}
	}
	return []Check{{name, Passed, "listens for every port that the rules in force hand packets to", ""}}
}
