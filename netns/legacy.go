// SPDX-License-Identifier: Apache-2.0

//go:build linux

package netns

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/weir-mesh/weir/internal/escape"
	"github.com/weir-mesh/weir/internal/nl"
	"github.com/weir-mesh/weir/internal/proc"
	"golang.org/x/sys/unix"
)

// LegacyTable is a table of iptables-legacy, which nftables knows nothing of.
type LegacyTable struct {
	Family string // ip or ip6
	Name   string
	Chains []string // those that are not built in
	Rules  int      // that decide something: not the ends of chains, nor policies that accept
}

// legacyFamily is how a family's tables are asked for, and where in an entry its
// offsets stand (struct ipt_entry of linux/netfilter_ipv4/ip_tables.h, struct
// ip6t_entry of linux/netfilter_ipv6/ip6_tables.h).
type legacyFamily struct {
	name         string
	family       int
	level        int
	names        string
	targetOffset int
	size         int // of an entry without matches
}

var legacyFamilies = []legacyFamily{
	{"ip", unix.AF_INET, unix.SOL_IP, "/proc/thread-self/net/ip_tables_names", 88, 112},
	{"ip6", unix.AF_INET6, unix.SOL_IPV6, "/proc/thread-self/net/ip6_tables_names", 140, 168},
}

// LegacyTables reads the namespace's tables of iptables-legacy and ip6tables-legacy,
// none where it never had any. It loads no module.
func (n *Namespace) LegacyTables() (tables []LegacyTable, err error) {
	err = n.Inside(func() error {
		tables, err = legacyTables()
		return err
	})
	return tables, err
}

// legacyTables reads those of the calling thread's network namespace.
func legacyTables() ([]LegacyTable, error) {
	var out []LegacyTable
	for _, f := range legacyFamilies {
		names, err := proc.Read(f.names)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, name := range strings.Fields(string(names)) {
			t, err := f.read(name)
			if err != nil {
				return nil, fmt.Errorf("table %s %s of iptables-legacy: %w", f.name, escape.Text(name), nl.Permission(err))
			}
			out = append(out, t)
		}
	}
	return out, nil
}

const (
	soGetInfo    = 64 // IPT_SO_GET_INFO
	soGetEntries = 65 // IPT_SO_GET_ENTRIES
	legacyName   = 32 // XT_TABLE_MAXNAMELEN
	infoSize     = 84 // struct ipt_getinfo, whose last number is the size of the entries
	entriesAt    = 40 // struct ipt_get_entries
	maxLegacy    = 64 << 20
	maxReads     = 10
)

// read reads one table; the kernel wants to be told its size, and answers EAGAIN
// where that is another by then.
func (f legacyFamily) read(name string) (t LegacyTable, err error) {
	for range maxReads {
		if t, err = f.readOnce(name); !errors.Is(err, unix.EAGAIN) {
			break
		}
	}
	return t, err
}

func (f legacyFamily) readOnce(name string) (LegacyTable, error) {
	s, err := unix.Socket(f.family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return LegacyTable{}, err
	}
	defer unix.Close(s)
	info := make([]byte, infoSize)
	copy(info[:legacyName-1], name)
	if err := nl.Getsockopt(s, f.level, soGetInfo, info); err != nil {
		return LegacyTable{}, err
	}
	size := binary.NativeEndian.Uint32(info[infoSize-4:])
	if size > maxLegacy {
		return LegacyTable{}, fmt.Errorf("%d bytes of rules are more than %d", size, maxLegacy)
	}
	entries := make([]byte, entriesAt+int(size))
	copy(entries[:legacyName-1], name)
	binary.NativeEndian.PutUint32(entries[legacyName:], size)
	if err := nl.Getsockopt(s, f.level, soGetEntries, entries); err != nil {
		return LegacyTable{}, err
	}
	t := LegacyTable{Family: f.name, Name: name}
	return t, f.chains(&t, entries[entriesAt:])
}

var errEntry = errors.New("an entry is cut short")

// chains takes the entries apart. A chain that is not built in begins with a
// target ERROR that names it; the last entry is one by the name ERROR.
func (f legacyFamily) chains(t *LegacyTable, entries []byte) error {
	const header, nameLen = 32, 30 // struct xt_error_target
	for len(entries) > 0 {
		if len(entries) < f.targetOffset+4 {
			return errEntry
		}
		target := int(binary.NativeEndian.Uint16(entries[f.targetOffset:]))
		next := int(binary.NativeEndian.Uint16(entries[f.targetOffset+2:]))
		if next < target+header || next > len(entries) {
			return errEntry
		}
		body := entries[target:next]
		if f.plain(entries[:target]) && passes(body) {
			entries = entries[next:]
			continue
		}
		if nl.Text(body[2:header]) == "ERROR" && len(body) >= header+nameLen {
			t.Chains = append(t.Chains, nl.Text(body[header:header+nameLen]))
		} else {
			t.Rules++
		}
		entries = entries[next:]
	}
	if n := len(t.Chains); n > 0 {
		t.Chains = t.Chains[:n-1]
	}
	return nil
}

// plain reports whether an entry, which ends where its target begins, matches
// every packet.
func (f legacyFamily) plain(entry []byte) bool {
	criteria := entry[:f.targetOffset-4] // struct ipt_ip, struct ip6t_ip6
	return len(entry) == f.size && !slices.ContainsFunc(criteria, func(b byte) bool { return b != 0 })
}

// passes reports whether a target is the standard one, with ACCEPT or RETURN.
func passes(target []byte) bool {
	const header, accept, back = 32, -2, -5 // -NF_ACCEPT-1, XT_RETURN
	if len(target) < header+4 || nl.Text(target[2:header]) != "" {
		return false
	}
	verdict := int32(binary.NativeEndian.Uint32(target[header:]))
	return verdict == accept || verdict == back
}
