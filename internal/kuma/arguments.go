// SPDX-License-Identifier: Apache-2.0

//go:build linux

package kuma

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	"github.com/weir-mesh/weir/internal/meshinit"
	"github.com/weir-mesh/weir/netns"
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
	files                []string // of a configuration
	resolvConf           string   // a variable
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
	f.StringArrayVar(&a.files, "config", nil, "file of Kuma's configuration of the transparent proxy, YAML or JSON, - for standard input; variables and flags win; may be given several times")
	f.StringArrayVar(&a.files, "config-file", nil, "as config")
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

// Parse parses files of a configuration, then the environment, which wins over them, then the rest of the command line,
// which wins over both. Arguments that are not flags, such as the words install transparent-proxy of an injected
// container, are ignored. Along with a [meshinit.ArgumentError] come the arguments up to it.
func Parse(args []string, in meshinit.Input) (*meshinit.Arguments, error) {
	a, out := new(arguments), &meshinit.Arguments{Names: names(), Level: slog.LevelInfo}
	f := a.flags(out)
	filesErr := a.readFiles(f, args, in.Stdin)
	environmentErr := a.readEnvironment(f, in.Variable)
	err := f.Parse(args)
	a.readLists(f, in.Variable)
	a.twoDNS = f.Changed("redirect-dns") && f.Changed("redirect-all-dns-traffic") && a.dns && a.allDNS
	out.Given = meshinit.GivenOf(f)
	if help, _ := f.GetBool("help"); help || errors.Is(err, pflag.ErrHelp) {
		out.Help = "usage: weir kuma-init [flags], those of kumactl install transparent-proxy; its variables count too\n\n" + f.FlagUsages()
		return out, nil
	}
	if err != nil {
		err = fmt.Errorf("kuma-init: %w", meshinit.WithHint("kuma-init", f, err))
	}
	if err := errors.Join(filesErr, environmentErr, err); err != nil {
		return out, meshinit.ArgumentError{Err: err}
	}
	if a.logs {
		out.Remarks = append(out.Remarks, "iptables-logs is ignored: weir trace shows which rules packets meet")
	}
	out.Meaning = meshinit.Meaning{Users: true, Config: a.config, HasIPv6: a.hasIPv6, AllDNS: "redirect-all-dns-traffic"}
	return out, nil
}

// hasIPv6 is that another interface than lo has an IPv6 address, a link-local one too.
func (a *arguments) hasIPv6(addresses []netns.Address) bool {
	return strings.EqualFold(a.family, "dualstack") && slices.ContainsFunc(addresses, func(at netns.Address) bool {
		return at.Addr().Is6() && !at.Loopback() && !at.Addr().IsLoopback()
	})
}

// refused reports what the reference refuses and a configuration does not, and what cannot be done.
func (a *arguments) refused() error {
	var errs []error
	problem := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if a.twoDNS {
		problem("--redirect-dns: goes not with --redirect-all-dns-traffic (want one of them)")
	}
	if a.firewalld {
		problem("--store-firewalld: weir's table is not firewalld's, which leaves it alone: it does not come back by it after a reboot (run weir again then)")
	}
	return errors.Join(errs...)
}
