// SPDX-License-Identifier: Apache-2.0

package rules

import "slices"

func (c *checker) selector(s Selector) {
	kind, argument := s.Kind()
	switch {
	case ofEitherFamily(s):
		c.problem("%q reads an address of either family, which nft cannot (Table.Expand writes the rule once for each)", s)
	case s.Type() == noType:
		c.problem("selector %d reads nothing", s)
	case kind == Selector(socketCgroup) && (argument == 0 || argument > maxCgroupLevel):
		c.problem("socket cgroupv2 needs a level of 1 to %d", maxCgroupLevel)
	case isFib(kind):
		c.fibFlags(s, FibFlag(argument))
	case kind == Selector(thRaw) || kind == Selector(ihRaw):
		c.raw(s)
	case kind != Selector(socketCgroup) && argument != 0:
		c.problem("%s takes no argument", s)
	}
}

func ofEitherFamily(s Selector) bool { return s == Selector(Saddr) || s == Selector(Daddr) }

// raw refuses bytes that nft or the kernel does not read, and those that nft lists by the
// name of their field.
func (c *checker) raw(s Selector) {
	offset, length, _ := s.Raw()
	if length > maxRawLength || offset > maxRawOffset {
		c.problem("%s reads beyond the first %d bytes, or more than %d", s, maxRawOffset+1, maxRawLength)
	}
	if kind, _ := s.Kind(); kind != Selector(thRaw) {
		return
	}
	ports := length == 2 && (offset == 0 || offset == 2)
	flags := offset == 13 && length == 1 && c.implied.proto == TCP
	if ports || flags {
		c.problem("%s is a field that has a name", s)
	}
}

// fibFlags refuses what nft_fib_init does.
func (c *checker) fibFlags(s Selector, by FibFlag) {
	switch {
	case by&^(FibMark|FibIIf|FibOIf) != 0:
		c.problem("%s takes mark, iif or oif into account, and nothing else", s)
	case by&FibIIf != 0 && by&FibOIf != 0:
		c.problem("%s takes iif or oif into account, not both", s)
	case by&FibOIf != 0 && s.Type() != fibAddrType:
		c.problem("%s looks for an interface, and cannot take oif into account", s)
	}
}

// place refuses a selector where the kernel does: nft_socket_validate and
// nft_fib_validate.
func (c *checker) place(s Selector) {
	if c.base == nil {
		return
	}
	kind, argument := s.Kind()
	hooks := everyHook
	switch {
	case kind == Selector(socketCgroup) || kind == Selector(SocketTransparent) || kind == Selector(SocketMark):
		hooks = []Hook{Prerouting, Input, Output}
	case isFib(kind):
		hooks = fibHooks(s.Type(), FibFlag(argument))
	}
	if !slices.Contains(hooks, c.base.Hook) {
		c.problem("%s works in %s, not in %s", s, joinHooks(hooks), c.base.Hook)
	}
}

var everyHook = []Hook{Prerouting, Input, Forward, Output, Postrouting, Ingress, Egress}

// fibHooks are those where nft_fib_validate takes a lookup: where the interfaces that
// it asks for are known.
func fibHooks(result DataType, by FibFlag) []Hook {
	switch {
	case by&FibIIf != 0:
		return []Hook{Prerouting, Input, Forward}
	case by&FibOIf != 0:
		return []Hook{Forward, Output, Postrouting}
	case result != fibAddrType:
		return []Hook{Prerouting} // input and forward since Linux 6.10
	}
	return []Hook{Prerouting, Input, Forward, Output, Postrouting}
}
