// SPDX-License-Identifier: Apache-2.0

//go:build linux

package netns

import (
	"bufio"
	"bytes"
	"context"
	"net/netip"
	"strconv"
	"strings"
)

// Resolvers are the DNS servers of the namespace's /etc/resolv.conf, without the zones
// of link-local ones. Errors are those of [Namespace.ReadEtc].
func (n *Namespace) Resolvers(ctx context.Context) ([]netip.Addr, error) {
	text, err := n.ReadEtc(ctx, "resolv.conf")
	return parseResolvers(text), err
}

// Users are the numbers of the users of the namespace's /etc/passwd by their names: an
// empty map where the file was not read. Errors are those of [Namespace.ReadEtc].
func (n *Namespace) Users(ctx context.Context) (map[string]uint32, error) {
	text, err := n.ReadEtc(ctx, "passwd")
	return parseNames(text), err
}

// Groups are the numbers of the groups of the namespace's /etc/group by their names: an
// empty map where the file was not read. Errors are those of [Namespace.ReadEtc].
func (n *Namespace) Groups(ctx context.Context) (map[string]uint32, error) {
	text, err := n.ReadEtc(ctx, "group")
	return parseNames(text), err
}

// linesOf reads lines of any length: a group's may name thousands of members.
func linesOf(text []byte) *bufio.Scanner {
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, len(text)+1)
	return lines
}

// parseResolvers reads resolv.conf(5). Zones of link-local servers are left
// out.
func parseResolvers(text []byte) []netip.Addr {
	var out []netip.Addr
	for lines := linesOf(text); lines.Scan(); {
		words := strings.Fields(lines.Text())
		if len(words) < 2 || words[0] != "nameserver" {
			continue
		}
		if a, err := netip.ParseAddr(words[1]); err == nil {
			out = append(out, a.WithZone("").Unmap())
		}
	}
	return out
}

// parseNames reads passwd(5) and group(5), which have the id in the third
// field.
func parseNames(text []byte) map[string]uint32 {
	out := map[string]uint32{}
	for lines := linesOf(text); lines.Scan(); {
		name, rest, _ := strings.Cut(lines.Text(), ":")
		_, rest, _ = strings.Cut(rest, ":")
		number, _, _ := strings.Cut(rest, ":")
		if id, err := strconv.ParseUint(number, 10, 32); err == nil {
			out[name] = uint32(id)
		}
	}
	return out
}
