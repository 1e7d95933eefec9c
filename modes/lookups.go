package modes

import (
	"slices"
	"strings"
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
	servers := !slices.Contains([]string{"", dnsNone, dnsAll}, strings.ToLower(c.DNS.Capture))
	return Lookups{
		Users:     named(c.Proxy.UIDs, c.Outbound.ExcludeUIDs, c.Probes.UIDs),
		Groups:    named(c.Proxy.GIDs, c.Outbound.IncludeGIDs, c.Outbound.ExcludeGIDs),
		Resolvers: servers && empty(c.DNS.Servers),
	}
}

// named reports whether a word of the lists may be a name.
func named(lists ...[]string) bool {
	return slices.ContainsFunc(slices.Concat(lists...), func(word string) bool {
		return strings.Trim(word, "0123456789") != "" && !strings.EqualFold(word, "all") && !isNone(word)
	})
}
