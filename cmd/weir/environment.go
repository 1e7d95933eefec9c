package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"github.com/weir-mesh/weir/modes"
	"github.com/weir-mesh/weir/nft"
)

// readEnvironment is what the target namespace is like. Files that do not exist
// tell nothing: an image of one file has none.
func readEnvironment(ctx context.Context, t *target, c *nft.Conn, lo nft.Loopback) (modes.Environment, error) {
	addresses, err := c.Addresses(ctx)
	if err != nil {
		return modes.Environment{}, err
	}
	env := fileEnvironment(t)
	env.IPv6 = anyIPv6(addresses)
	env.LoopbackIPv6 = lo.IPv6
	return env, nil
}

// fileEnvironment is what the files of the target's /etc tell, and the kernel.
func fileEnvironment(t *target) modes.Environment {
	return modes.Environment{
		PostroutingInput: kernelSince(kernelRelease(), 5, 7),
		Resolvers:        readFile(t.etc("resolv.conf"), parseResolvers),
		Users:            readFile(t.etc("passwd"), parseNames),
		Groups:           readFile(t.etc("group"), parseNames),
	}
}

// kernelSince reports whether a release is of that version or a later one.
func kernelSince(release string, major, minor int) bool {
	var is, at int
	_, err := fmt.Sscanf(release, "%d.%d", &is, &at)
	return err == nil && (is > major || is == major && at >= minor)
}

func anyIPv6(addresses []nft.Address) bool {
	for _, a := range addresses {
		if !a.Loopback() && a.Addr().Is6() && !a.Addr().IsLinkLocalUnicast() {
			return true
		}
	}
	return false
}

const maxFile = 8 << 20 // bytes of a file of /etc that are read

func readFile[T any](path string, parse func(io.Reader) T) T {
	f, err := os.Open(path)
	if err != nil {
		return parse(strings.NewReader(""))
	}
	defer f.Close()
	return parse(io.LimitReader(f, maxFile))
}

// linesOf reads lines of any length: a group's may name thousands of members.
func linesOf(r io.Reader) *bufio.Scanner {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxFile+1)
	return lines
}

// parseResolvers reads resolv.conf(5). Zones of link-local servers are left
// out.
func parseResolvers(r io.Reader) []netip.Addr {
	var out []netip.Addr
	for lines := linesOf(r); lines.Scan(); {
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
func parseNames(r io.Reader) map[string]uint32 {
	out := map[string]uint32{}
	for lines := linesOf(r); lines.Scan(); {
		name, rest, _ := strings.Cut(lines.Text(), ":")
		_, rest, _ = strings.Cut(rest, ":")
		number, _, _ := strings.Cut(rest, ":")
		if id, err := strconv.ParseUint(number, 10, 32); err == nil {
			out[name] = uint32(id)
		}
	}
	return out
}
