// SPDX-License-Identifier: Apache-2.0

package modes

import "github.com/weir-mesh/weir/rules"

// callsCaptured is the word for calls that the proxy sees.
const callsCaptured = "captured"

// localStays reports whether the application's calls over lo are left alone: else
// they are looked at as all others are, but for those to the loopback prefix.
func (s *sidecar) localStays() bool { return !s.cidrs.loopback && !s.ownPod }

// tunnel reads the port or the ports of the proxy's tunnel listener, none where there
// is no such listener.
func (r *reader) tunnel(port PortWord) []rules.Range {
	if nothing([]PortWord{port}) {
		return nil
	}
	p, ok := r.portRange("inbound.tunnelPort", string(port))
	if !ok {
		return nil
	}
	return []rules.Range{p}
}

// callers match the proxy's packets where its calls to its own pod are captured.
func (s *sidecar) callers(w *writer) []rules.Match {
	if !s.ownCalls {
		return nil
	}
	return s.owners(w)
}

// tcpBut matches TCP to any other port.
func tcpBut(ports []rules.Range) rules.Match {
	if len(ports) == 0 {
		return rules.L4Proto.Is(rules.TCP)
	}
	return rules.TCPDport.NotWithin(ports...)
}
