// SPDX-License-Identifier: Apache-2.0

package modes

import (
	"errors"
	"slices"
	"strings"

	"github.com/weir-mesh/weir/internal/parse"
)

// Lookups are what a configuration leaves to the files of a namespace's /etc. Most
// leave nothing.
type Lookups struct {
	Users, Groups, Resolvers bool
}

// With are those of both.
func (l Lookups) With(o Lookups) Lookups {
	return Lookups{l.Users || o.Users, l.Groups || o.Groups, l.Resolvers || o.Resolvers}
}

// Lookups tells what [State] may ask of the environment's Users, Groups and
// Resolvers.
func (c Config) Lookups() Lookups {
	all := strings.EqualFold(c.DNS.Capture, dnsAll) && parse.IsNone(c.Conntrack) // the known ones need no transparent listener
	servers := all || !slices.Contains([]string{"", dnsNone, dnsAll}, strings.ToLower(c.DNS.Capture))
	return Lookups{
		Users:     named(c.Proxy.UIDs, c.Outbound.ExcludeUIDs, c.Probes.UIDs, excludedUsers(c.Outbound.Exclude)),
		Groups:    named(c.Proxy.GIDs, c.Outbound.IncludeGIDs, c.Outbound.ExcludeGIDs),
		Resolvers: servers && empty(c.DNS.Servers) || c.Mode == ModeEgress && c.Watch.Resolvers == nil,
	}
}

// Places reports whether [State] may ask of the environment's PolicyRules, to find a
// place for one of weir's.
func (c Config) Places() bool {
	if c.Routing.Priority != "" && !strings.EqualFold(c.Routing.Priority, autoPriority) {
		return false
	}
	unmarked := c.Inbound.Via == "" || strings.EqualFold(c.Inbound.Via, viaRedirect) || parse.IsNone(c.Inbound.Via)
	untracked := strings.EqualFold(c.Conntrack, conntrackNone)
	return c.Mode == ModeAmbientPod || c.Mode == ModeSidecar && (untracked || !unmarked)
}

// named reports whether a word of the lists may be a name.
func named(lists ...[]string) bool {
	return slices.ContainsFunc(slices.Concat(lists...), func(word string) bool {
		return strings.Trim(word, "0123456789") != "" && !strings.EqualFold(word, "all") && !parse.IsNone(word)
	})
}

func excludedUsers(list []Excluded) (users []string) {
	for _, l := range list {
		users = append(users, l.UIDs...)
	}
	return users
}

// lookedUpIn is the file of /etc that a key's names or addresses come from.
func lookedUpIn(key string) string {
	switch key {
	case "proxy.uids", "outbound.excludeUIDs", "outbound.exclude.uids", "probes.uids":
		return "passwd"
	case "proxy.gids", "outbound.includeGIDs", "outbound.excludeGIDs":
		return "group"
	case "dns.capture":
		return "resolv.conf"
	}
	return ""
}

// withUnread adds to problems with names and resolvers why the file that would tell
// of them was not read.
func withUnread(problems []error, env Environment) []error {
	out := slices.Clone(problems)
	for i, err := range out {
		var config *ConfigError
		if !errors.As(err, &config) || !mayBeName(config.Word) && !config.Missing {
			continue
		}
		if unread := env.Unread[lookedUpIn(config.Key)]; unread != nil {
			because := *config
			because.Cause = unread
			out[i] = &because
		}
	}
	return out
}

// mayBeName reports whether a word may be the name of a user or a group.
func mayBeName(word string) bool { return strings.IndexAny(word, "abcdefghijklmnopqrstuvwxyz_") == 0 }
