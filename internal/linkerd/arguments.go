// SPDX-License-Identifier: Apache-2.0

//go:build linux

package linkerd

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"

	"github.com/spf13/pflag"
	"github.com/weir-mesh/weir/internal/meshinit"
	"github.com/weir-mesh/weir/internal/term"
	"github.com/weir-mesh/weir/modes"
)

// arguments are proxy-init's flags.
type arguments struct {
	incoming, outgoing, uid, gid           int
	redirect                               []int
	inboundIgnore, outboundIgnore, subnets []string
	ipv6                                   bool
	closeWait                              int
	logFormat, logLevel, mode, bin         string
}

// noPort is a port that was not given.
const noPort = -1

func (a *arguments) flags(out *meshinit.Arguments) *pflag.FlagSet {
	f := pflag.NewFlagSet("linkerd-init", pflag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.SortFlags = false
	f.IntVarP(&a.incoming, "incoming-proxy-port", "p", noPort, "port that inbound TCP is redirected to (required)")
	f.IntVarP(&a.outgoing, "outgoing-proxy-port", "o", noPort, "port that outbound TCP is redirected to (required)")
	f.IntVarP(&a.uid, "proxy-uid", "u", -1, "user whose traffic is not captured; 0 and less is none")
	f.IntVarP(&a.gid, "proxy-gid", "g", -1, "group whose traffic is not captured; 0 and less is none")
	f.IntSliceVarP(&a.redirect, "ports-to-redirect", "r", nil, "inbound ports that are captured (default: all)")
	f.StringSliceVar(&a.inboundIgnore, "inbound-ports-to-ignore", nil, "inbound ports and ranges that are left alone, listed in ports-to-redirect or not")
	f.StringSliceVar(&a.outboundIgnore, "outbound-ports-to-ignore", nil, "outbound ports and ranges that are left alone")
	f.StringSliceVar(&a.subnets, "subnets-to-ignore", nil, "sources whose connections are left alone, of both families")
	f.BoolVar(&out.DryRun, "simulate", false, "change nothing, print the plan")
	f.StringVar(&out.Namespace, "netns", "", "work in the network namespace of that path (default: the present one)")
	f.BoolP("use-wait-flag", "w", false, "accepted: there is no lock of xtables to wait for")
	f.IntVar(&a.closeWait, "timeout-close-wait-secs", 0, "seconds of net.netfilter.nf_conntrack_tcp_timeout_close_wait, 0: as it is")
	f.StringVar(&a.logFormat, "log-format", "plain", "plain or json")
	f.StringVar(&a.logLevel, "log-level", "info", "trace, debug, info, warn or error")
	f.StringVar(&a.mode, "iptables-mode", "", "accepted (legacy, nft or plain): no program is run")
	f.BoolVar(&a.ipv6, "ipv6", true, "capture IPv6 too")
	f.StringVar(&a.bin, "firewall-bin-path", "", "accepted (iptables-legacy, iptables-nft or iptables): no program is run")
	f.String("firewall-save-bin-path", "", "accepted")
	f.BoolVar(&out.PrintConfig, "print-config", false, "change nothing, print weir's own configuration that makes the same state")
	f.BoolP("help", "h", false, "print this")
	return f
}

// Flags are all flags of linkerd-init.
func Flags() []meshinit.Flag {
	return meshinit.FlagsOf(new(arguments).flags(new(meshinit.Arguments)))
}

// Parse parses proxy-init's command line, which no variable adds to. Arguments that are not flags are
// ignored, as in the reference. Along with a [meshinit.ArgumentError] come the arguments up to it.
func Parse(args []string, _ meshinit.Input) (*meshinit.Arguments, error) {
	a, out := new(arguments), &meshinit.Arguments{Names: names()}
	f := a.flags(out)
	err := f.Parse(args)
	out.Given, out.LogJSON = meshinit.GivenOf(f), a.logFormat == "json"
	out.Level, _ = meshinit.ParseLevel(a.logLevel)
	if help, _ := f.GetBool("help"); help || errors.Is(err, pflag.ErrHelp) {
		out.Help = "usage: weir linkerd-init [flags], those of Linkerd's proxy-init\n\n" + f.FlagUsages()
		return out, nil
	}
	if err != nil {
		return out, meshinit.ArgumentError{Err: fmt.Errorf("linkerd-init: %w", meshinit.WithHint("linkerd-init", f, err))}
	}
	if a.closeWait != 0 {
		out.Sysctls = []meshinit.Sysctl{{Path: "net/netfilter/nf_conntrack_tcp_timeout_close_wait", Value: strconv.Itoa(a.closeWait)}}
		out.Remarks = append(out.Remarks, "timeout-close-wait-secs is a setting of the namespace, which a configuration does not have")
	}
	out.Config = func(modes.Environment) (modes.Config, error) { return a.config() }
	return out, nil
}

// refused reports what the reference refuses and a configuration does not.
func (a *arguments) refused() error {
	var errs []error
	problem := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if a.incoming == noPort {
		problem("--incoming-proxy-port: is required")
	}
	if a.outgoing == noPort {
		problem("--outgoing-proxy-port: is required")
	}
	if a.uid <= 0 && a.gid <= 0 {
		problem("--proxy-uid: neither it nor --proxy-gid is given (want one over 0: without one the proxy's own traffic would be captured in a loop)")
	}
	if a.closeWait < 0 {
		problem("--timeout-close-wait-secs: %d is not a number of seconds", a.closeWait)
	}
	if !slices.Contains([]string{"", "legacy", "nft", "plain"}, a.mode) {
		problem("--iptables-mode: %q is not a mode (want legacy, nft or plain)", term.Shorten(a.mode))
	}
	if !slices.Contains([]string{"", "iptables-legacy", "iptables-nft", "iptables"}, a.bin) && a.mode == "" {
		problem("--firewall-bin-path: %q is not a program of iptables (want iptables-legacy, iptables-nft or iptables)", term.Shorten(a.bin))
	}
	if _, known := meshinit.ParseLevel(a.logLevel); !known {
		problem("--log-level: %q is not a level (want trace, debug, info, warn or error)", term.Shorten(a.logLevel))
	}
	return errors.Join(errs...)
}
