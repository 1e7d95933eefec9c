// SPDX-License-Identifier: Apache-2.0

package modes

import "github.com/weir-mesh/weir/internal/parse"

// noteShared notes the ports that two of the proxy's listeners share.
func (r *reader) noteShared(written, full Config) {
	for _, s := range sharedPorts(written, full) {
		r.note(s.key, "%s is %s too: one listener has to serve for both", s.word, Ref{Key: s.other})
	}
}

// listener is a key that names a TCP port of the proxy's; the one for DNS takes
// UDP besides.
type listener struct{ key, word string }

// listeners are those that a configuration uses. A sidecar's proxy calls its own
// pod through the inbound one even where nothing else comes in that way.
func listeners(c Config) []listener {
	var list []listener
	if c.Mode == ModeSidecar || !parse.IsNone(c.Inbound.Via) {
		list = append(list, listener{"inbound.port", string(c.Inbound.Port)})
	}
	list = append(list, listener{"inbound.tunnelPort", string(c.Inbound.TunnelPort)})
	if !parse.IsNone(c.Outbound.Via) {
		list = append(list, listener{"outbound.port", string(c.Outbound.Port)})
	}
	if !parse.IsNone(c.DNS.Capture) && empty(c.DNS.To) {
		list = append(list, listener{"dns.port", string(c.DNS.Port)})
	}
	return list
}

// shared is a listener whose port another one has.
type shared struct {
	listener
	other string // the key
}

// sharedPorts blames the key that was written where the other holds its default.
func sharedPorts(written, full Config) []shared {
	isSet := func(l listener) bool { k := keyOf(l.key); return k.isSet(&written) }
	var out []shared
	list := listeners(full)
	for i, l := range list {
		for _, before := range list[:i] {
			if _, ok := parse.Port(l.word); !ok || l.word != before.word {
				continue
			}
			if isSet(before) && !isSet(l) {
				l, before = before, l
			}
			out = append(out, shared{l, before.key})
		}
	}
	return out
}
