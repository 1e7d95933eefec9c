// SPDX-License-Identifier: Apache-2.0

package rules

import "strings"

// FibFlag is a set of what a lookup of fib takes into account beside the address, as
// NFTA_FIB_F_* of linux/netfilter/nf_tables.h numbers it.
type FibFlag uint16

// What fib takes into account.
const (
	FibMark FibFlag = 4  // the packet's mark, by which policy rules choose a table
	FibIIf  FibFlag = 8  // the interface by which the packet came: the route must lead there,
	FibOIf  FibFlag = 16 // or the one by which it leaves: of types alone
)

// FibAddr is the address of a packet that fib looks up. What else is looked at,
// [Key.By] says.
type FibAddr Selector

// Addresses that fib looks up.
const (
	FibSaddr FibAddr = FibAddr(fibSaddrType)
	FibDaddr FibAddr = FibAddr(fibDaddrType)
)

// Type is what kind of address it is to this host.
func (a FibAddr) Type() Key[AddrType] { return eitherFib(a, fibSaddrType, fibDaddrType) }

// OIf is the index of the interface by which packets to the address leave, 0 where it
// is local or has no route.
func (a FibAddr) OIf() Key[IfIndex] { return eitherFib(a, fibSaddrOIf, fibDaddrOIf) }

// OIfName is the name of that interface, empty where there is none.
func (a FibAddr) OIfName() Key[IfName] { return eitherFib(a, fibSaddrOIfName, fibDaddrOIfName) }

// Route is whether there is that interface.
func (a FibAddr) Route() Key[Presence] { return eitherFib(a, fibSaddrRoute, fibDaddrRoute) }

func eitherFib[T Value](a FibAddr, saddr, daddr Key[T]) Key[T] {
	if a == FibDaddr {
		return daddr
	}
	return saddr
}

// By is the lookup of one of the keys of a [FibAddr] with what else it takes into account:
// FibSaddr.Route().By(FibMark|FibIIf) reads `fib saddr . mark . iif oif`.
func (k Key[T]) By(flags FibFlag) Key[T] { return k | Key[T](flags)<<argumentShift }

// Fib is the address that a selector of fib looks up; ok is false of others.
func (s Selector) Fib() (a FibAddr, ok bool) {
	switch kind, _ := s.Kind(); kind {
	case Selector(fibSaddrType), Selector(fibSaddrOIf), Selector(fibSaddrOIfName), Selector(fibSaddrRoute):
		return FibSaddr, true
	case Selector(fibDaddrType), Selector(fibDaddrOIf), Selector(fibDaddrOIfName), Selector(fibDaddrRoute):
		return FibDaddr, true
	}
	return 0, false
}

func isFib(s Selector) bool {
	_, ok := s.Fib()
	return ok
}

// fibText puts what is taken into account between the address and what is read.
func fibText(text string, by FibFlag) string {
	at := strings.LastIndexByte(text, ' ')
	address, result := text[:at], text[at:]
	for _, f := range []struct {
		flag FibFlag
		name string
	}{{FibMark, "mark"}, {FibIIf, "iif"}, {FibOIf, "oif"}} {
		if by&f.flag != 0 {
			address += " . " + f.name
		}
	}
	return address + result
}
