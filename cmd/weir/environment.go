package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/weir-mesh/weir/modes"
	"github.com/weir-mesh/weir/nft"
)

// readEnvironment is what the target namespace is like. Files that do not exist
// tell nothing: an image of one file has none.
func (j *job) readEnvironment(ctx context.Context, lo nft.Loopback, asked modes.Lookups) (modes.Environment, error) {
	addresses, err := j.conn.Addresses(ctx)
	if err != nil {
		return modes.Environment{}, err
	}
	env, err := j.fileEnvironment(ctx, asked)
	env.IPv6 = anyIPv6(addresses)
	env.LoopbackIPv6 = lo.IPv6
	return env, err
}

// fileEnvironment is what the files of the target's /etc tell of what is asked, and
// the kernel.
func (j *job) fileEnvironment(ctx context.Context, asked modes.Lookups) (modes.Environment, error) {
	env := modes.Environment{PostroutingInput: kernelSince(kernelRelease(), 5, 7)}
	return env, j.lookUp(ctx, &env, asked)
}

// lookUp reads the files of the target's /etc that are asked and were not read. It is
// an error that the time is over, and none that there is no file to be read.
func (j *job) lookUp(ctx context.Context, env *modes.Environment, asked modes.Lookups) error {
	if asked.Resolvers && env.Resolvers == nil {
		env.Resolvers = parseResolvers(j.readEtc(ctx, "resolv.conf"))
	}
	if asked.Users && env.Users == nil {
		env.Users = parseNames(j.readEtc(ctx, "passwd"))
	}
	if asked.Groups && env.Groups == nil {
		env.Groups = parseNames(j.readEtc(ctx, "group"))
	}
	for _, name := range []string{"resolv.conf", "passwd", "group"} {
		if err := j.unread[name]; errors.Is(err, context.Cause(ctx)) || errors.Is(err, ctx.Err()) {
			return err
		}
	}
	return nil
}

// readEtc reads a file of the target's /etc, and keeps why it cannot be read.
func (j *job) readEtc(ctx context.Context, name string) []byte {
	text, err := j.target.ReadEtc(ctx, name)
	if err != nil {
		if j.unread == nil {
			j.unread = map[string]error{}
		}
		j.unread[name] = err
	}
	return text
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
