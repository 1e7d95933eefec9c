//go:build linux

package kuma

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	"github.com/weir-mesh/weir/internal/meshinit"
	"github.com/weir-mesh/weir/internal/term"
	"github.com/weir-mesh/weir/modes"
)

// arguments are the flags and variables of install transparent-proxy.
type arguments struct {
	user                 string
	inbound, outbound    direction
	dns, allDNS, noZones bool
	twoDNS               bool // flags ask for both
	dnsPort              string
	vnet                 []string
	family               string
	dropInvalid          bool
	logs, firewalld      bool
	config               []string
	resolvConf           string // a variable
	insertOutbound       bool
}

// direction is what both have. Only variables disable outbound and include ports.
type direction struct {
	enabled          bool
	port             string
	include, exclude string
	ips, uids        []string
}

func (a *arguments) flags(out *meshinit.Arguments) *pflag.FlagSet {
	f := pflag.NewFlagSet("kuma-init", pflag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.SortFlags = false
	a.outbound.enabled = true
	f.StringVar(&a.user, "kuma-dp-user", "", "user or id whose traffic is not captured (default: 5678, or kuma-dp where passwd lists it and not 5678)")
	f.BoolVar(&a.inbound.enabled, "redirect-inbound", true, "capture inbound TCP")
	f.StringVar(&a.inbound.port, "redirect-inbound-port", "15006", "port that inbound TCP is redirected to")
	f.StringVar(&a.outbound.port, "redirect-outbound-port", "15001", "port that outbound TCP is redirected to")
	f.StringVar(&a.inbound.exclude, "exclude-inbound-ports", "", "inbound ports that are left alone")
	f.StringVar(&a.outbound.exclude, "exclude-outbound-ports", "", "outbound ports that are left alone")
	f.StringArrayVar(&a.inbound.ips, "exclude-inbound-ips", nil, "sources whose connections are left alone; may be given several times")
	f.StringArrayVar(&a.outbound.ips, "exclude-outbound-ips", nil, "destinations that are left alone, of queries too; may be given several times")
	f.StringArrayVar(&a.outbound.uids, "exclude-outbound-ports-for-uids", nil, "[protocol:][ports:]uids that are left alone, such as tcp:80,8000-8100:1000-2000; may be given several times")
	f.BoolVar(&a.dns, "redirect-dns", false, "capture UDP queries to the resolvers of resolv.conf")
	f.BoolVar(&a.allDNS, "redirect-all-dns-traffic", false, "capture UDP queries to any address")
	f.StringVar(&a.dnsPort, "redirect-dns-port", "15053", "port that queries go to")
	f.BoolVar(&a.noZones, "skip-dns-conntrack-zone-split", false, "do without conntrack zones for queries")
	f.StringArrayVar(&a.vnet, "vnet", nil, "interface:CIDR whose other TCP counts as outbound, with its queries; may be given several times")
	f.StringVar(&a.family, "ip-family-mode", "dualstack", "dualstack or ipv4")
	f.BoolVar(&a.dropInvalid, "drop-invalid-packets", false, "drop packets that conntrack calls invalid")
	f.Bool("redirect-inbound-insert-instead-of-append", false, "accepted: weir's table has its own chains")
	f.BoolVar(&a.insertOutbound, "redirect-outbound-insert-instead-of-append", false, "capture TCP queries as other TCP, which is what this comes to in the reference")
	f.BoolVar(&a.firewalld, "store-firewalld", false, "refused: weir's table is not firewalld's, which leaves it alone")
	f.String("iptables-executables", "", "accepted: no program is run")
	f.BoolVar(&a.logs, "iptables-logs", false, "accepted: weir trace shows what packets meet")
	for _, name := range []string{"disable-comments", "verbose"} {
		f.Bool(name, false, "accepted")
	}
	for _, name := range []string{"wait", "wait-interval", "max-retries"} {
		f.Uint(name, 0, "accepted: there is no lock of xtables to wait for")
	}
	f.String("sleep-between-retries", "2s", "accepted")
	f.StringArrayVar(&a.config, "config", nil, "refused: give what a file says as flags, or as variables KUMA_TRANSPARENT_PROXY_...")
	f.BoolVar(&out.DryRun, "dry-run", false, "change nothing, print the plan")
	f.StringVar(&out.Namespace, "netns", "", "work in the network namespace of that path or name; not the reference's (default: the present one)")
	f.BoolVar(&out.PrintConfig, "print-config", false, "change nothing, print weir's own configuration that makes the same state")
	f.BoolP("help", "h", false, "print this")
	return f
}

// Flags are all flags of kuma-init.
func Flags() []meshinit.Flag {
	return meshinit.FlagsOf(new(arguments).flags(new(meshinit.Arguments)))
}

// Parse parses the environment, then the command line, which wins. Arguments that are not flags, such as the words install
// transparent-proxy of an injected container, are ignored. Along with a [meshinit.ArgumentError] come the arguments up
// to it.
func Parse(args []string, lookup meshinit.LookupVariable) (*meshinit.Arguments, error) {
	a, out := new(arguments), &meshinit.Arguments{Names: names, Level: slog.LevelInfo, Users: true}
	f := a.flags(out)
	environmentErr := a.readEnvironment(f, lookup)
	err := f.Parse(args)
	a.readLists(f, lookup)
	a.twoDNS = f.Changed("redirect-dns") && f.Changed("redirect-all-dns-traffic") && a.dns && a.allDNS
	out.Given = meshinit.GivenOf(f)
	if help, _ := f.GetBool("help"); help || errors.Is(err, pflag.ErrHelp) {
		out.Help = "usage: weir kuma-init [flags], those of kumactl install transparent-proxy; its variables count too\n\n" + f.FlagUsages()
		return out, nil
	}
	if err != nil {
		err = fmt.Errorf("kuma-init: %w", meshinit.WithHint("kuma-init", f, err))
	}
	if err := errors.Join(environmentErr, err); err != nil {
		return out, meshinit.ArgumentError{Err: err}
	}
	if a.logs {
		out.Remarks = append(out.Remarks, "iptables-logs is ignored: weir trace shows which rules packets meet")
	}
	out.Meaning = a.meaning
	out.Missing = withoutResolver
	out.HasIPv6 = func(addresses []netip.Addr) bool {
		return a.family == "dualstack" && slices.ContainsFunc(addresses, func(at netip.Addr) bool { return at.Is6() && !at.IsLoopback() })
	}
	return out, nil
}

// withoutResolver captures no DNS, as the reference does, where resolv.conf was read and names no server.
func withoutResolver(c *modes.Config, env modes.Environment) []string {
	if c.DNS.Capture != "servers" || len(env.Resolvers) > 0 || env.Unread["resolv.conf"] != nil {
		return nil
	}
	c.DNS.Capture = "none"
	return []string{"redirect-dns: resolv.conf names no server: DNS is not captured, as in the reference (redirect-all-dns-traffic captures queries to any address)"}
}

// refused reports what the reference refuses and a configuration does not, and what cannot be done.
func (a *arguments) refused() error {
	var errs []error
	problem := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if a.family = strings.ToLower(a.family); a.family != "dualstack" && a.family != "ipv4" {
		problem("--ip-family-mode: %q is not a mode (want dualstack or ipv4)", term.Shorten(a.family))
	}
	if a.twoDNS {
		problem("--redirect-dns: goes not with --redirect-all-dns-traffic (want one of them)")
	}
	if a.firewalld {
		problem("--store-firewalld: weir's table is not firewalld's, which leaves it alone: it does not come back by it after a reboot (run weir again then)")
	}
	if len(a.config) > 0 {
		problem("--config: %q is not read (want what it says as flags, or as variables KUMA_TRANSPARENT_PROXY_...)", term.Shorten(a.config[0]))
	}
	if a.resolvConf != "" && a.resolvConf != "/etc/resolv.conf" {
		problem("KUMA_TRANSPARENT_PROXY_REDIRECT_DNS_RESOLV_CONFIG_PATH: %q is not read (want /etc/resolv.conf)", term.Shorten(a.resolvConf))
	}
	if len(a.inbound.uids) > 0 {
		problem("KUMA_TRANSPARENT_PROXY_REDIRECT_INBOUND_EXCLUDE_PORTS_FOR_UIDS: what comes in has no user")
	}
	return errors.Join(errs...)
}
