// SPDX-License-Identifier: Apache-2.0

package config

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/weir-mesh/weir/modes"
)

// environmentKeys are the keys of an environment's document.
var environmentKeys = []string{"ipv6", "loopbackIPv6", "postroutingInput", "resolvers", "users", "groups", "cgroups"}

// ParseEnvironment reads a document that says what a network namespace is like, for
// where there is none to look at:
//
//	ipv6: true               # an interface other than lo has a global IPv6 address
//	loopbackIPv6: true       # lo takes IPv6 addresses
//	resolvers: [10.96.0.10]
//	users: {envoy: 1337}
//	groups: {envoy: 1337}
//	postroutingInput: true   # postrouting tells by which interface a packet came in
//	cgroups: {kubelet.slice: 77}
//
// What it does not say is no, or none. name is the file's name for messages. The
// error lists every problem of the document, in order: see [Problems]. What could
// be read is returned all the same.
func ParseEnvironment(name string, data []byte) (modes.Environment, error) {
	var env modes.Environment
	d := &document{source: Place{File: name}}
	root, ok := d.read(data)
	if ok && root.kind != aMap && root.kind != absent {
		d.problemf(root.place, "is %s (want keys: %s)", root.kind, strings.Join(environmentKeys, ", "))
	}
	for _, p := range root.pairs {
		if p.value.kind == absent && slices.Contains(environmentKeys, p.key) {
			continue
		}
		switch p.key {
		case "ipv6":
			env.IPv6 = d.yes(p)
		case "loopbackIPv6":
			env.LoopbackIPv6 = d.yes(p)
		case "resolvers":
			env.Resolvers = d.addresses(p)
		case "postroutingInput":
			env.PostroutingInput = d.yes(p)
		case "users":
			env.Users = numbers[uint32](d, p, 32)
		case "groups":
			env.Groups = numbers[uint32](d, p, 32)
		case "cgroups":
			env.Cgroups = numbers[uint64](d, p, 64)
		default:
			d.keyProblem(p.place, p.key, "", "%s", nearestKey(p.key, environmentKeys))
		}
	}
	return env, d.err()
}

// yes reads true or false, and the words that stand for them.
func (d *document) yes(p pair) bool {
	word, ok := d.oneWord(p.value, p.key)
	switch strings.ToLower(word) {
	case "true", "yes", "on", "enabled":
		return true
	case "false", "no", "off", "disabled":
		return false
	}
	if ok {
		d.keyProblem(p.value.place, p.key, word, "is neither true nor false")
	}
	return false
}

func (d *document) addresses(p pair) []netip.Addr {
	words, _ := d.words(p.value, p.key)
	out := make([]netip.Addr, 0, len(words))
	for _, w := range words {
		a, err := netip.ParseAddr(w.word)
		if err != nil || a.Zone() != "" {
			d.keyProblem(w.place, p.key, w.word, "is not an address (want 10.96.0.10 or fd00::10)")
			continue
		}
		out = append(out, a.Unmap())
	}
	return out
}

// numbers reads names and their numbers, of so many bits.
func numbers[T uint32 | uint64](d *document, p pair, bits int) map[string]T {
	if p.value.kind != aMap {
		d.keyProblem(p.value.place, p.key, "", "is %s (want names and numbers such as {envoy: 1337})", p.value.kind)
		return nil
	}
	out := make(map[string]T, len(p.value.pairs))
	for _, name := range p.value.pairs {
		key := join(p.key, name.key)
		word, ok := d.oneWord(name.value, key)
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(word, 10, bits)
		if err != nil {
			d.keyProblem(name.value.place, key, word, "is not a number from 0 to %d", ^uint64(0)>>(64-bits))
			continue
		}
		out[name.key] = T(n)
	}
	return out
}
