// SPDX-License-Identifier: Apache-2.0

//go:build linux

package istio

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/pflag"
	"github.com/weir-mesh/weir/internal/meshinit"
)

// Arguments are istio-init's flags and environment. They are parsed by the library that the reference
// uses, so that they parse alike.
type Arguments struct {
	Help          bool
	DryRun        bool
	SkipRuleApply bool
	CleanupOnly   bool
	RunValidation bool
	PrintConfig   bool

	NetworkNamespace string // a path or a name; "" is the present one
	ProbePort        uint16 // that validation connects to
	ProbeTimeout     time.Duration
	LogJSON          bool

	logLevel                               string
	outboundPort, inboundPort, tunnelPort  string
	proxyUID, proxyGID                     string
	mode                                   string
	inboundPorts, inboundExclude           string
	outboundCIDRs, outboundExcludeCIDRs    string
	outboundPorts, outboundExclude         string
	excludeInterfaces, kubeVirtInterfaces  string
	tproxyMark, tproxyTable                string
	redirectDNS, captureAllDNS             bool
	dropInvalid, dualStack                 bool
	forceIptablesBinary                    string
	cniMode, reconcile, forceApply, native bool

	flags  *pflag.FlagSet
	lookup meshinit.LookupVariable
	unread []string // variables whose value does not parse
}

// Parse parses the environment, then the command line, which wins. Arguments that are not flags are
// ignored, as in the reference. Along with an [ArgumentError] come the arguments up to it.
func Parse(args []string, lookup meshinit.LookupVariable) (*Arguments, error) {
	a := newArguments()
	a.lookup = lookup
	a.flags.VisitAll(a.readVariables)
	err := a.flags.Parse(args)
	if err != nil {
		return a, ArgumentError{Err: fmt.Errorf("istio-init: %w", meshinit.WithHint("istio-init", a.flags, err))}
	}
	return a, nil
}

func newArguments() *Arguments {
	a := &Arguments{flags: pflag.NewFlagSet("istio-init", pflag.ContinueOnError)}
	f := a.flags
	f.SetOutput(io.Discard)
	f.SortFlags = false
	f.StringVarP(&a.outboundPort, "envoy-port", "p", "15001", "port that outbound TCP is redirected to")
	f.StringVarP(&a.inboundPort, "inbound-capture-port", "z", "15006", "port that inbound TCP goes to")
	f.StringVarP(&a.tunnelPort, "inbound-tunnel-port", "e", "15008", "port of the tunnel listener, which is not redirected")
	f.StringVarP(&a.proxyUID, "proxy-uid", "u", "", "users whose traffic is not captured (default: ENVOY_USER's, else 1337)")
	f.StringVarP(&a.proxyGID, "proxy-gid", "g", "", "groups whose traffic is not captured (default: as proxy-uid)")
	f.StringVarP(&a.mode, "istio-inbound-interception-mode", "m", "", "REDIRECT or TPROXY")
	f.StringVarP(&a.inboundPorts, "istio-inbound-ports", "b", "", "inbound ports that are captured, * for all (default: none)")
	f.StringVarP(&a.inboundExclude, "istio-local-exclude-ports", "d", "", "inbound ports that are left alone, with -b '*'")
	f.StringVarP(&a.excludeInterfaces, "istio-exclude-interfaces", "c", "", "interfaces that are left alone")
	f.StringVarP(&a.outboundCIDRs, "istio-service-cidr", "i", "", "destinations that are captured, * for all (default: none)")
	f.StringVarP(&a.outboundExcludeCIDRs, "istio-service-exclude-cidr", "x", "", "destinations that are left alone")
	f.StringVarP(&a.outboundPorts, "istio-outbound-ports", "q", "", "outbound ports that are captured whatever the destination")
	f.StringVarP(&a.outboundExclude, "istio-local-outbound-ports-exclude", "o", "", "outbound ports that are left alone")
	f.StringVarP(&a.kubeVirtInterfaces, "kube-virt-interfaces", "k", "", "interfaces whose inbound traffic is treated as outbound")
	f.StringVarP(&a.tproxyMark, "istio-inbound-tproxy-mark", "t", "1337", "mark of packets for the inbound listener, with TPROXY")
	f.StringVarP(&a.tproxyTable, "istio-inbound-tproxy-route-table", "r", "133", "routing table that delivers them")
	f.BoolVarP(&a.DryRun, "dry-run", "n", false, "change nothing, print the plan")
	f.BoolVar(&a.SkipRuleApply, "skip-rule-apply", false, "leave the rules as they are")
	f.BoolVar(&a.RunValidation, "run-validation", false, "prove that traffic is captured; exit 126 where it is not")
	f.Uint16Var(&a.ProbePort, "iptables-probe-port", 15002, "port that validation connects to")
	f.DurationVar(&a.ProbeTimeout, "probe-timeout", 5*time.Second, "how long validation tries")
	f.BoolVar(&a.redirectDNS, "redirect-dns", false, "capture DNS queries to the resolvers of resolv.conf")
	f.BoolVar(&a.captureAllDNS, "capture-all-dns", false, "capture DNS queries to any address")
	f.BoolVar(&a.dropInvalid, "drop-invalid", false, "drop packets that conntrack calls invalid")
	f.BoolVar(&a.dualStack, "dual-stack", false, "capture IPv6 where any interface has it")
	f.BoolVar(&a.CleanupOnly, "cleanup-only", false, "remove everything weir created")
	f.StringVar(&a.NetworkNamespace, "network-namespace", "", "work in the network namespace of that path (default: the present one)")
	f.BoolVar(&a.cniMode, "cni-mode", false, "accepted: there is no lock file to keep apart")
	f.BoolVar(&a.reconcile, "reconcile", false, "accepted: what differs is always mended")
	f.BoolVar(&a.forceApply, "force-apply", false, "accepted: what differs is always applied")
	f.BoolVar(&a.native, "native-nftables", false, "accepted: nftables is all there is")
	f.StringVar(&a.forceIptablesBinary, "force-iptables-binary", "", "accepted: no program is run")
	f.StringVar(&a.logLevel, "log_output_level", "default:info", "debug, info, warn, error or none")
	f.BoolVar(&a.LogJSON, "log_as_json", false, "log JSON")
	for _, name := range []string{"log_target", "log_stacktrace_level", "log_caller", "vklog"} {
		f.String(name, "", "accepted")
	}
	f.BoolVar(&a.PrintConfig, "print-config", false, "change nothing, print weir's own configuration that makes the same state")
	f.BoolVarP(&a.Help, "help", "h", false, "print this")
	return a
}

// Flags are all flags of istio-init.
func Flags() []meshinit.Flag { return meshinit.FlagsOf(newArguments().flags) }

// Usage is the help of --help.
func (a *Arguments) Usage() string {
	return "usage: weir istio-init [flags], each also by its name in capitals from the environment\n\n" + a.flags.FlagUsages()
}

// Given are the flags of the command line, such as envoy-port=15001.
func (a *Arguments) Given() []string { return meshinit.GivenOf(a.flags) }
