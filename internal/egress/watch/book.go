// SPDX-License-Identifier: Apache-2.0

//go:build linux

package watch

import (
	"net/netip"

	"github.com/weir-mesh/weir/internal/egress/names"
	"github.com/weir-mesh/weir/rules"
)

// Evidence for the name of a destination, beside that of package names.
const (
	byDNS     = "dns"     // an answer of a resolver gave the address to the name
	byAddress = "address" // nothing names it
)

// Contradicted stands behind the evidence for a name where no answer of DNS gave the address to it.
const Contradicted = "!"

const (
	maxNames   = 1000    // names at once: those that come later are "other"
	maxClaims  = 1 << 16 // names that clients gave to destinations
	maxPerHost = 16      // names that resolvers gave to one address
	otherName  = "other"
)

// book is what destinations are called.
type book struct {
	names    map[string]bool
	claimed  map[endpoint]map[string]names.By
	claims   int    // in claimed
	others   uint64 // claims of names that had no room
	answered map[netip.Addr]map[string]bool
	given    map[string]map[netip.Addr]bool // the same, the other way round
	answers  bool
}

type endpoint struct {
	proto rules.Proto
	addr  netip.AddrPort
}

func newBook() *book {
	return &book{names: map[string]bool{}, claimed: map[endpoint]map[string]names.By{}, answered: map[netip.Addr]map[string]bool{}, given: map[string]map[netip.Addr]bool{}}
}

// known is the name, or otherName where there are too many.
func (b *book) known(name string) string {
	if b.names[name] {
		return name
	}
	if len(b.names) >= maxNames {
		return otherName
	}
	b.names[name] = true
	return name
}

// claim notes the name that a client gave to a destination. It returns the name under which
// its bytes count, "" for none.
func (b *book) claim(c names.Claim) string {
	if c.Name == "" {
		return ""
	}
	at := endpoint{rules.Proto(c.Proto), c.Dst}
	name := b.known(c.Name)
	if _, known := b.claimed[at][name]; !known && b.claims >= maxClaims {
		b.others++
		return ""
	} else if !known {
		b.claims++
	}
	if name == otherName {
		b.others++
	}
	if b.claimed[at] == nil {
		b.claimed[at] = map[string]names.By{}
	}
	b.claimed[at][name] = c.By
	return name
}

func (b *book) answer(a names.Answer) {
	b.answers = true
	name := b.known(a.Name)
	if b.given[name] == nil {
		b.given[name] = map[netip.Addr]bool{}
	}
	for _, addr := range a.Addresses {
		if b.answered[addr] == nil && len(b.answered) < maxDestinations {
			b.answered[addr] = map[string]bool{}
		}
		if of := b.answered[addr]; of != nil && len(of) < maxPerHost {
			of[name] = true
		}
		if len(b.given[name]) < maxDestinations {
			b.given[name][addr] = true
		}
	}
}

// of are the names of a destination, and what the first is known from.
func (b *book) of(d Destination) (found []string, by string) {
	claims := b.claimed[endpoint{d.Proto, d.Addr}]
	for name, from := range claims {
		found = append(found, name)
		by = max(by, b.judged(from, name, d))
	}
	if len(found) > 0 {
		return found, by
	}
	for name := range b.answered[d.Addr.Addr()] {
		found = append(found, name)
	}
	if len(found) > 0 {
		return found, byDNS
	}
	return nil, byAddress
}

// evidence is what a name that a client gave to the destination is known from.
func (b *book) evidence(d Destination, name string) string {
	return b.judged(b.claimed[endpoint{d.Proto, d.Addr}][name], name, d)
}

func (b *book) judged(from names.By, name string, d Destination) string {
	if b.contradicts(name, d.Addr.Addr()) {
		return string(from) + Contradicted
	}
	return string(from)
}

// contradicts reports whether resolvers know better than the client: they gave the name
// other addresses, or the address to no name at all. Where no answer is seen, nothing is.
func (b *book) contradicts(name string, addr netip.Addr) bool {
	given := b.given[name]
	return b.answers && name != otherName && !given[addr] && (len(given) > 0 || len(b.answered[addr]) == 0)
}
