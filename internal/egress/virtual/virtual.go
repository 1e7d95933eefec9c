// SPDX-License-Identifier: Apache-2.0

// Package virtual gives host names addresses that no host has, one of each family. A name keeps its addresses for as long
// as it is configured, whatever others come and go, and nobody else is given them for an hour after that. It knows no
// network, and no clock but what it is told.
package virtual

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/weir-mesh/weir/internal/atomicfile"
)

// restTime is how long the addresses of a name that is gone are given to nobody: clients may remember them.
const restTime = time.Hour

const (
	maxState = 8 << 20 // bytes of a file
	maxSlots = 1<<16 - 2
)

// Pool is where addresses come from. A name has the same place in both.
type Pool struct{ IPv4, IPv6 netip.Prefix }

// Addresses are those of a name.
type Addresses struct{ IPv4, IPv6 netip.Addr }

// Table is the names and their addresses.
type Table struct {
	pool   Pool
	byName map[string]*entry
	byAddr map[netip.Addr]string
}

// entry is a name's line of the file.
type entry struct {
	Slot  uint32    `json:"slot"`
	Freed time.Time `json:"freed,omitzero"` // when the name was no longer configured
}

// file is what is kept.
type file struct {
	Version int               `json:"version"`
	IPv4    netip.Prefix      `json:"ipv4"`
	IPv6    netip.Prefix      `json:"ipv6"`
	Names   map[string]*entry `json:"names"`
}

// slots is how many names the pool has room for.
func (p Pool) slots() uint32 {
	n := uint32(maxSlots)
	for _, prefix := range []netip.Prefix{p.IPv4, p.IPv6} {
		if bits := prefix.Addr().BitLen() - prefix.Bits(); bits < 16 {
			n = min(n, max(uint32(1)<<bits, 2)-2)
		}
	}
	return n
}

// at is the address of a slot: the first of a prefix is nobody's.
func at(prefix netip.Prefix, slot uint32) netip.Addr {
	b := prefix.Masked().Addr().AsSlice()
	n := slot + 1
	for i := len(b) - 1; n > 0; i-- {
		n += uint32(b[i])
		b[i], n = byte(n), n>>8
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// Load gives every name its addresses: those that the file has, and others to names that are new; and writes the file
// where that changes it. A file that is not whole, or of other prefixes, is an error: what it held may be in use.
func Load(path string, pool Pool, names []string, now time.Time) (*Table, error) {
	kept, err := read(path)
	if err != nil {
		return nil, err
	}
	if kept.Version != 0 && (kept.IPv4 != pool.IPv4 || kept.IPv6 != pool.IPv6) {
		return nil, fmt.Errorf("%s holds addresses of %s and %s: to give out others remove it once no client remembers them", path, kept.IPv4, kept.IPv6)
	}
	t := &Table{pool: pool, byName: kept.Names, byAddr: map[netip.Addr]string{}}
	if err := t.give(names, now); err != nil {
		return nil, err
	}
	text, err := json.MarshalIndent(file{1, pool.IPv4, pool.IPv6, t.byName}, "", " ")
	if err != nil {
		return nil, err
	}
	if err := atomicfile.Write(path, append(text, '\n')); err != nil {
		return nil, fmt.Errorf("keep virtual addresses: %w", err)
	}
	return t, nil
}

func read(path string) (kept file, err error) {
	kept.Names = map[string]*entry{}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return kept, nil
	}
	if err != nil {
		return kept, err
	}
	if len(text) > maxState {
		return kept, fmt.Errorf("%s has %d bytes: it is not a file of virtual addresses", path, len(text))
	}
	if err := json.Unmarshal(text, &kept); err != nil {
		return kept, fmt.Errorf("%s is not a whole file of virtual addresses (%w): remove it to give out new ones, once no client remembers the old", path, err)
	}
	taken := map[uint32]string{}
	for name, e := range kept.Names {
		switch {
		case e == nil || kept.Version != 1:
			return kept, fmt.Errorf("%s is not a file of virtual addresses", path)
		case taken[e.Slot] != "":
			return kept, fmt.Errorf("%s gives %s and %s one address", path, name, taken[e.Slot])
		}
		taken[e.Slot] = name
	}
	return kept, nil
}

// give gives names slots: by their hash, or the next one that is free.
func (t *Table) give(names []string, now time.Time) error {
	taken := map[uint32]bool{}
	for name, e := range t.byName {
		switch {
		case slices.Contains(names, name):
			e.Freed = time.Time{}
		case e.Freed.IsZero():
			e.Freed = now
		case now.Sub(e.Freed) >= restTime:
			delete(t.byName, name)
			continue
		}
		taken[e.Slot] = true
	}
	slots := t.pool.slots()
	for _, name := range slices.Sorted(slices.Values(names)) {
		if e := t.byName[name]; e == nil {
			if uint32(len(taken)) >= slots {
				return fmt.Errorf("%s and %s have room for %d names, and some rest for %s after their use: %s has none", t.pool.IPv4, t.pool.IPv6, slots, restTime, name)
			}
			h := fnv.New32a()
			_, _ = h.Write([]byte(name))
			slot := h.Sum32() % slots
			for taken[slot] {
				slot = (slot + 1) % slots
			}
			taken[slot] = true
			t.byName[name] = &entry{Slot: slot}
		}
		a, _ := t.Of(name)
		t.byAddr[a.IPv4], t.byAddr[a.IPv6] = name, name
	}
	return nil
}

// Of are the addresses of a name, false where it has none.
func (t *Table) Of(name string) (Addresses, bool) {
	e := t.byName[name]
	if e == nil || !e.Freed.IsZero() {
		return Addresses{}, false
	}
	return Addresses{at(t.pool.IPv4, e.Slot), at(t.pool.IPv6, e.Slot)}, true
}

// Name is whose address it is, false where it is nobody's.
func (t *Table) Name(a netip.Addr) (string, bool) {
	name, is := t.byAddr[a]
	return name, is
}
