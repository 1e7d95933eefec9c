package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
	"github.com/weir-mesh/weir/nft"
	"github.com/weir-mesh/weir/rules"
)

// explainLive says what becomes of packets by what a namespace holds now: every
// table on the hooks, its routing, addresses and sockets.
func explainLive(cc *cli.Context, asked []rules.Packet) error {
	if configured(cc) {
		return usageError{fmt.Errorf("--live asks of what the namespace holds, and takes no configuration")}
	}
	if cc.IsSet("address") {
		return usageError{fmt.Errorf("--live reads the namespace's addresses, and takes none by --address")}
	}
	return inNamespace(cc, func(ctx context.Context, j *job) error {
		x, err := j.liveExplainer(ctx)
		if err != nil {
			return fmt.Errorf("explain --live: %w", err)
		}
		return x.explain(cc, asked)
	})
}

func (j *job) liveExplainer(ctx context.Context) (*explainer, error) {
	if err := j.connect(); err != nil {
		return nil, err
	}
	live, err := j.conn.Ruleset(ctx)
	if err != nil {
		return nil, err
	}
	host, err := j.conn.Host(ctx)
	if err != nil {
		return nil, err
	}
	if err := j.target.inside(func() error { return readLinkSettings(&host) }); err != nil {
		return nil, err
	}
	if host.Sockets, err = nft.Sockets(ctx, j.target.fd); err != nil {
		return nil, err
	}
	obstacle, err := j.legacy()
	if err != nil {
		return nil, err
	}
	tables, outside := seen(live.Tables)
	if obstacle == "" {
		obstacle = outside
	}
	return &explainer{host: host, evaluate: func(h rules.Host) func(rules.Packet) rules.Journey { return evaluateLive(h, tables, obstacle) }}, nil
}

// readLinkSettings reads, of the calling thread's namespace, the settings of
// interfaces that netlink does not tell. Where there is no /proc they are taken to
// be as the kernel makes them.
func readLinkSettings(h *rules.Host) error {
	isSet := func(link, key string) (bool, error) {
		text, err := os.ReadFile("/proc/sys/net/ipv4/conf/" + link + "/" + key)
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		return strings.TrimSpace(string(text)) == "1", err
	}
	for i := range h.Links {
		l := &h.Links[i]
		for key, into := range map[string]*bool{"route_localnet": &l.Localnet, "accept_local": &l.AcceptLocal} {
			for _, of := range []string{"all", l.Name} { // either is enough
				yes, err := isSet(of, key)
				if err != nil {
					return err
				}
				*into = *into || yes
			}
		}
	}
	return nil
}

// legacy is what of iptables-legacy stands in the way of an answer.
func (j *job) legacy() (obstacle string, err error) {
	var tables []nft.LegacyTable
	err = j.target.inside(func() (err error) {
		tables, err = nft.LegacyTables()
		return err
	})
	var names []string
	for _, t := range tables {
		if t.Rules > 0 {
			names = append(names, t.Family+" "+t.Name)
		}
	}
	if len(names) > 0 {
		obstacle = "iptables-legacy has rules in table " + strings.Join(names, ", ") + ", which nftables cannot see"
	}
	return obstacle, err
}

// seen are the tables that packets of IPv4 and IPv6 meet, and what among the
// others decides about such packets too.
func seen(tables []*nft.LiveTable) (out []rules.Ruleset, obstacle string) {
	families := map[string]rules.Family{"inet": 0, "ip": rules.IPv4, "ip6": rules.IPv6}
	for _, t := range tables {
		f, known := families[t.Family]
		switch {
		case known:
			out = append(out, rules.Ruleset{Table: t.Table, Family: f})
		case t.Family == "netdev" && slices.ContainsFunc(t.Chains, func(c *rules.Chain) bool { return c.Base != nil && len(c.Rules) > 0 }):
			obstacle = "table " + t.Title() + " decides at the devices themselves, where weir does not follow"
		}
	}
	return out, obstacle
}

// evaluateLive evaluates in both orders that tables may have been made in: among
// chains of one priority the one that was made last comes first, and the kernel
// does not tell which of two tables' it was.
func evaluateLive(h rules.Host, tables []rules.Ruleset, obstacle string) func(rules.Packet) rules.Journey {
	first := rules.NewEvaluator(h, tables...)
	backwards := slices.Clone(tables)
	slices.Reverse(backwards)
	second := rules.NewEvaluator(h, backwards...)
	return func(p rules.Packet) rules.Journey {
		j := first.Evaluate(p, nil)
		other := second.Evaluate(p, nil)
		unknown := func(why string) {
			j.Fate = rules.Fate{Kind: rules.Unknown, Src: j.Fate.Src, Dst: j.Fate.Dst, Why: why}
		}
		switch {
		case obstacle != "":
			unknown(obstacle)
		case j.Fate.Kind == rules.Unknown:
		case other.Fate.Kind == rules.Unknown:
			return other
		case j.Fate != other.Fate:
			unknown("two tables have chains of one priority, and which of them was made last, and so comes first, nftables does not tell")
		}
		return j
	}
}
