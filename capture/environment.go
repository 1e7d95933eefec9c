package capture

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
	"github.com/weir-mesh/weir/netns"
	"golang.org/x/sys/unix"
)

// Environment reads what a configuration leaves to the network namespace: whether it
// has IPv6, and as far as the configuration asks, the users, groups and resolvers of
// its /etc and the ids of cgroups. A file that is not there, or is not to be read, is
// no error: Environment.Unread says why, and [modes.State] where that matters. The
// error is that interfaces could not be listed, or that the context ended.
func Environment(ctx context.Context, ns *netns.Namespace, config modes.Config) (modes.Environment, error) {
	lo, err := ns.Loopback(ctx)
	if err != nil {
		return modes.Environment{}, reaching(err)
	}
	return readEnvironment(ctx, ns, lo, config)
}

// FileEnvironment reads what can be told without looking at the namespace's
// interfaces: what the kernel can do, and of the files of its /etc what is asked. It
// has no IPv6. It needs no privilege, and is what to start from for answers about a
// pod that does not run yet. The error is that the context ended.
func FileEnvironment(ctx context.Context, ns *netns.Namespace, asked modes.Lookups) (modes.Environment, error) {
	env := modes.Environment{PostroutingInput: kernelSince(kernelRelease(), 5, 7)}
	return env, LookUp(ctx, ns, &env, asked)
}

// LookUp reads into the environment what is asked of the files of the namespace's
// /etc and is not there yet. The error is that the context ended.
func LookUp(ctx context.Context, ns *netns.Namespace, env *modes.Environment, asked modes.Lookups) error {
	if asked.Resolvers && env.Resolvers == nil {
		env.Resolvers = parseResolvers(readEtc(ctx, ns, env, "resolv.conf"))
	}
	if asked.Users && env.Users == nil {
		env.Users = parseNames(readEtc(ctx, ns, env, "passwd"))
	}
	if asked.Groups && env.Groups == nil {
		env.Groups = parseNames(readEtc(ctx, ns, env, "group"))
	}
	if ctx.Err() == nil {
		return nil
	}
	for _, name := range []string{"resolv.conf", "passwd", "group"} {
		if err := env.Unread[name]; errors.Is(err, context.Cause(ctx)) || errors.Is(err, ctx.Err()) {
			return err
		}
	}
	return nil
}

func readEnvironment(ctx context.Context, ns *netns.Namespace, lo netns.Loopback, config modes.Config) (modes.Environment, error) {
	addresses, err := ns.Addresses(ctx)
	if err != nil {
		return modes.Environment{}, err
	}
	env, err := FileEnvironment(ctx, ns, config.Lookups())
	env.IPv6 = netns.HasIPv6(addresses)
	env.LoopbackIPv6 = lo.IPv6
	if len(config.Probes.Cgroups) > 0 {
		env.Cgroups = cgroupIDs(config.Probes.Cgroups)
	}
	return env, err
}

// readEtc reads a file of the namespace's /etc, and keeps why it was not read.
func readEtc(ctx context.Context, ns *netns.Namespace, env *modes.Environment, name string) []byte {
	text, err := ns.ReadEtc(ctx, name)
	if err != nil {
		if env.Unread == nil {
			env.Unread = map[string]error{}
		}
		env.Unread[name] = err
	}
	return text
}

func kernelRelease() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Release[:])
}

// kernelSince reports whether a release is of that version or a later one.
func kernelSince(release string, major, minor int) bool {
	var haveMajor, haveMinor int
	_, err := fmt.Sscanf(release, "%d.%d", &haveMajor, &haveMinor)
	return err == nil && (haveMajor > major || haveMajor == major && haveMinor >= minor)
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
