package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"github.com/weir-mesh/weir/internal/term"
	"github.com/weir-mesh/weir/modes"
)

// istioArguments are istio-init's flags and environment. They are parsed by the
// library that the reference uses, so that they parse alike.
type istioArguments struct {
	flags  *pflag.FlagSet
	help   bool
	unread []string // variables whose value does not parse

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
	dryRun, skipRuleApply, cleanupOnly     bool
	runValidation, printConfig             bool
	probePort                              uint16
	probeTimeout                           time.Duration
	networkNamespace, forceIptablesBinary  string
	cniMode, reconcile, forceApply, native bool
	logLevel                               string
	logJSON                                bool
}

// istioFlagOf names the flag or variable for a key of ours, for messages.
var istioFlagOf = map[string]string{
	"proxy.uids":            "--proxy-uid",
	"proxy.gids":            "--proxy-gid",
	"inbound.port":          "--inbound-capture-port",
	"inbound.tunnelPort":    "--inbound-tunnel-port",
	"inbound.includePorts":  "--istio-inbound-ports",
	"inbound.excludePorts":  "--istio-local-exclude-ports",
	"outbound.port":         "--envoy-port",
	"outbound.includeCIDRs": "--istio-service-cidr",
	"outbound.excludeCIDRs": "--istio-service-exclude-cidr",
	"outbound.includePorts": "--istio-outbound-ports",
	"outbound.excludePorts": "--istio-local-outbound-ports-exclude",
	"outbound.includeGIDs":  ownerGroups,
	"outbound.excludeGIDs":  ownerGroupsExclude,
	"interfaces.exclude":    "--istio-exclude-interfaces",
	"interfaces.reroute":    "--kube-virt-interfaces",
	"loopback.cidr":         "ISTIO_OUTBOUND_IPV4_LOOPBACK_CIDR",
	"routing.mark":          "--istio-inbound-tproxy-mark",
	"routing.loopMark":      "--istio-inbound-tproxy-mark",
	"routing.mask":          markMask,
	"routing.table":         "--istio-inbound-tproxy-route-table",
}

// noEnvironment are flags that no variable sets.
var noEnvironment = []string{"envoy-port", "log_output_level", "log_as_json", "log_target", "log_stacktrace_level", "log_caller", "vklog", "print-config", "help"}

// furtherEnvironment are variables that win over a flag's own.
var furtherEnvironment = map[string]string{
	"redirect-dns": "ISTIO_META_DNS_CAPTURE",
	"drop-invalid": "INVALID_DROP",
	"dual-stack":   "ISTIO_DUAL_STACK",
}

// onlyEnvironment are variables that no flag has.
var onlyEnvironment = []string{ownerGroups, ownerGroupsExclude, "ISTIO_OUTBOUND_IPV4_LOOPBACK_CIDR", "ENVOY_USER", dryRunFile, markMask}

const (
	ownerGroups        = "ISTIO_OUTBOUND_OWNER_GROUPS"
	ownerGroupsExclude = "ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE"
)

// includedGroups are the groups whose traffic is captured. A variable that is set
// and empty includes none of them, as in the reference.
func includedGroups() (groups string, every bool) {
	groups, set := os.LookupEnv(ownerGroups)
	return groups, !set || groups == "*"
}

const (
	markMask          = "WEIR_MARK_MASK" // of TPROXY's marks; not the reference's
	wholeMark         = "0xffffffff"     // a mask
	referenceLoopMark = 1338             // of the proxy's calls to its own pod, which no flag sets
)

const dryRunFile = "DRY_RUN_FILE_PATH" // to which a dry run writes its plan too

func newIstioArguments() *istioArguments {
	a := &istioArguments{flags: pflag.NewFlagSet("istio-init", pflag.ContinueOnError)}
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
	f.BoolVarP(&a.dryRun, "dry-run", "n", false, "change nothing, print the plan")
	f.BoolVar(&a.skipRuleApply, "skip-rule-apply", false, "leave the rules as they are")
	f.BoolVar(&a.runValidation, "run-validation", false, "prove that traffic is captured; exit 126 where it is not")
	f.Uint16Var(&a.probePort, "iptables-probe-port", 15002, "port that validation connects to")
	f.DurationVar(&a.probeTimeout, "probe-timeout", 5*time.Second, "how long validation tries")
	f.BoolVar(&a.redirectDNS, "redirect-dns", false, "capture DNS queries to the resolvers of resolv.conf")
	f.BoolVar(&a.captureAllDNS, "capture-all-dns", false, "capture DNS queries to anyone")
	f.BoolVar(&a.dropInvalid, "drop-invalid", false, "drop packets that conntrack calls invalid")
	f.BoolVar(&a.dualStack, "dual-stack", false, "capture IPv6 where any interface has it")
	f.BoolVar(&a.cleanupOnly, "cleanup-only", false, "remove everything of ours")
	f.StringVar(&a.networkNamespace, "network-namespace", "", "work in the network namespace of that path (default: the present one)")
	f.BoolVar(&a.cniMode, "cni-mode", false, "accepted: there is no lock file to keep apart")
	f.BoolVar(&a.reconcile, "reconcile", false, "accepted: what differs is always mended")
	f.BoolVar(&a.forceApply, "force-apply", false, "accepted: what differs is always applied")
	f.BoolVar(&a.native, "native-nftables", false, "accepted: nftables is all there is")
	f.StringVar(&a.forceIptablesBinary, "force-iptables-binary", "", "accepted: no program is run")
	f.StringVar(&a.logLevel, "log_output_level", "default:info", "debug, info, warn, error or none")
	f.BoolVar(&a.logJSON, "log_as_json", false, "log JSON")
	for _, name := range []string{"log_target", "log_stacktrace_level", "log_caller", "vklog"} {
		f.String(name, "", "accepted")
	}
	f.BoolVar(&a.printConfig, "print-config", false, "change nothing, print weir's own configuration that makes the same state")
	f.BoolVarP(&a.help, "help", "h", false, "print this")
	return a
}

// parseIstio parses the environment, then the command line, which wins. Stray
// words are ignored, as in the reference. Along with an error come the arguments
// up to it.
func parseIstio(args []string) (*istioArguments, error) {
	a := newIstioArguments()
	a.flags.VisitAll(func(f *pflag.Flag) {
		for _, name := range variablesOf(f.Name) {
			if value, ok := os.LookupEnv(name); ok {
				a.readVariable(f, name, value)
			}
		}
	})
	err := a.flags.Parse(args)
	var unknown *pflag.NotExistError
	if errors.As(err, &unknown) {
		err = fmt.Errorf("%w (%s)", err, suggestion("--"+unknown.GetSpecifiedName(), a.names(), "weir istio-init --help"))
	}
	if err != nil {
		a.logJSON = a.logJSON || slices.Contains(args, "--log_as_json")
		return a, usageError{fmt.Errorf("istio-init: %w", err)}
	}
	return a, nil
}

// readVariable sets a flag from a variable. A value that does not parse turns a
// switch off, whatever an earlier variable said, as in the reference; it leaves
// other flags as they are.
func (a *istioArguments) readVariable(f *pflag.Flag, name, value string) {
	before, kind := f.Value.String(), f.Value.Type()
	if value == "" && kind != "bool" || f.Value.Set(value) == nil {
		return
	}
	if kind == "bool" { // the library has zeroed it
		if before == "true" || value != "" {
			a.unread = append(a.unread, fmt.Sprintf("%s=%q is not a bool: %s is off, as in the reference", name, term.Shorten(value), f.Name))
		}
		return
	}
	_ = f.Value.Set(before)
	a.unread = append(a.unread, fmt.Sprintf("%s=%q is ignored: it is no %s", name, term.Shorten(value), kind))
}

// names are the flags' long names.
func (a *istioArguments) names() []string {
	var out []string
	a.flags.VisitAll(func(f *pflag.Flag) { out = append(out, "--"+f.Name) })
	return out
}

// variablesOf are the variables that set a flag, the last one winning.
func variablesOf(flag string) []string {
	if slices.Contains(noEnvironment, flag) {
		return nil
	}
	names := []string{strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))}
	if further := furtherEnvironment[flag]; further != "" {
		names = append(names, further)
	}
	return names
}

func (a *istioArguments) usage() string {
	return "usage: weir istio-init [flags], each also by its name in capitals from the environment\n\n" + a.flags.FlagUsages()
}

// given are the flags of the command line.
func (a *istioArguments) given() []string {
	var out []string
	a.flags.Visit(func(f *pflag.Flag) { out = append(out, f.Name+"="+f.Value.String()) })
	return out
}

// environ are the variables that count.
func (a *istioArguments) environ() []string {
	var out []string
	add := func(name string) {
		if value, ok := os.LookupEnv(name); ok {
			out = append(out, name+"="+value)
		}
	}
	a.flags.VisitAll(func(f *pflag.Flag) {
		for _, name := range variablesOf(f.Name) {
			add(name)
		}
	})
	for _, name := range onlyEnvironment {
		add(name)
	}
	return out
}

// remarks say what flags mean here that mean something else in the reference.
func (a *istioArguments) remarks() []string {
	out := slices.Clone(a.unread)
	if !slices.Contains([]string{"", "REDIRECT", "TPROXY"}, a.mode) {
		out = append(out, fmt.Sprintf("the interception mode %q acts as REDIRECT, as in the reference; weir remove turns capture off", a.mode))
	}
	if a.inboundExclude != "" && a.inboundPorts != "*" {
		out = append(out, "istio-local-exclude-ports counts only with istio-inbound-ports '*': "+a.inboundExclude+" is ignored, as in the reference")
	}
	for _, name := range []string{"istio-exclude-interfaces", "kube-virt-interfaces"} {
		for _, w := range words(a.flags.Lookup(name).Value.String()) {
			if hasAsterisk(w) {
				out = append(out, fmt.Sprintf("%s: %q names no interface, as in the reference (the wildcard is eth+)", name, w))
			}
		}
	}
	for _, name := range []string{"istio-service-cidr", "istio-service-exclude-cidr"} {
		for _, w := range words(a.flags.Lookup(name).Value.String()) {
			if isMapped(w) {
				out = append(out, fmt.Sprintf("%s: no packet has an address of %s, which is IPv4-mapped, as in the reference (write it as IPv4)", name, w))
			}
		}
	}
	if table := ownTable[a.tproxyTable]; table == "none" && a.mode == "TPROXY" {
		out = append(out, fmt.Sprintf("istio-inbound-tproxy-route-table %s is one of the kernel's own: packets with the mark are routed as others are, as in the reference", a.tproxyTable))
	}
	groups, everyGroup := includedGroups()
	if !everyGroup && len(words(groups)) == 0 {
		out = append(out, ownerGroups+" is empty: outbound traffic of no group is captured, as in the reference (unset it, or set it to '*', for all groups)")
	}
	if exclude := os.Getenv(ownerGroupsExclude); exclude != "" && !everyGroup {
		out = append(out, fmt.Sprintf("%s counts only while all groups are captured: %s is ignored, as in the reference, since %s is set", ownerGroupsExclude, exclude, ownerGroups))
	}
	for _, name := range []string{"envoy-port", "inbound-capture-port", "inbound-tunnel-port"} {
		if f := a.flags.Lookup(name); f.Value.String() == "" {
			out = append(out, fmt.Sprintf("%s is empty: its default, %s, is used", name, f.DefValue))
		}
	}
	if a.captureAllDNS && !a.redirectDNS {
		out = append(out, "capture-all-dns counts only with redirect-dns, as in the reference")
	}
	return out
}

// config is the configuration of ours that means the same, but for IPv6. The
// error joins everything that is wrong with the values.
func (a *istioArguments) config(env modes.Environment) (modes.Config, error) {
	c := modes.Config{Mode: modes.ModeSidecar}
	c.Proxy = a.proxy(env)
	c.Inbound = a.inbound()
	outbound, err := a.outbound()
	c.Outbound = outbound
	c.DNS.Capture = a.dnsCapture()
	c.Interfaces = modes.Interfaces{Exclude: interfaceNames(a.excludeInterfaces)}
	for _, name := range interfaceNames(a.kubeVirtInterfaces) {
		c.Interfaces.Reroute = append(c.Interfaces.Reroute, modes.Rerouted{Name: name, Exclusions: "ignored"}) // as in the reference
	}
	c.Loopback.CIDR = os.Getenv("ISTIO_OUTBOUND_IPV4_LOOPBACK_CIDR")
	if a.dropInvalid {
		c.DropInvalid = "enabled"
	}
	c.Routing = a.routing()
	err = errors.Join(err, a.wrongWords(), istioNames(modes.Check(c)))
	if a.runValidation && a.probeTimeout <= 0 {
		err = errors.Join(err, fmt.Errorf("--probe-timeout: %s is no time to try in", a.probeTimeout))
	}
	if err != nil {
		return c, usageError{err}
	}
	return c, nil
}

// wrongWords reports what the reference refuses and a configuration of ours does
// not.
func (a *istioArguments) wrongWords() error {
	var errs []error
	for _, flag := range []string{"istio-inbound-ports", "istio-local-exclude-ports", "istio-exclude-interfaces", "istio-service-cidr",
		"istio-service-exclude-cidr", "istio-outbound-ports", "istio-local-outbound-ports-exclude", "kube-virt-interfaces"} {
		for _, w := range words(a.flags.Lookup(flag).Value.String()) {
			if w != "*" && modes.IsForAll(w) {
				errs = append(errs, fmt.Errorf("--%s: %q means nothing here (want '*' for all, or an empty list for none)", flag, w))
			}
		}
	}
	if _, err := logLevel(a.logLevel); err != nil {
		errs = append(errs, err)
	}
	if b := a.forceIptablesBinary; b != "" && b != "legacy" && b != "nft" {
		errs = append(errs, fmt.Errorf("--force-iptables-binary: %q is neither legacy nor nft", b))
	}
	return errors.Join(errs...)
}

const (
	defaultProxyUser = "istio-proxy"
	defaultProxyUID  = 1337
)

func (a *istioArguments) proxy(env modes.Environment) modes.Proxy {
	uid := a.proxyUID
	if uid == "" {
		user := os.Getenv("ENVOY_USER")
		if user == "" {
			user = defaultProxyUser
		}
		id, known := env.Users[user]
		if !known {
			id = defaultProxyUID
		}
		uid = strconv.FormatUint(uint64(id), 10)
	}
	gid := a.proxyGID
	if gid == "" {
		gid = uid
	}
	return modes.Proxy{UIDs: words(uid), GIDs: words(gid)}
}

func (a *istioArguments) inbound() modes.Inbound {
	in := modes.Inbound{Via: "redirect", Port: portWord(a.inboundPort), TunnelPort: a.tunnelPort, IncludePorts: portWords(a.inboundPorts)}
	switch {
	case len(in.IncludePorts) == 0 && a.mode == "TPROXY":
		in.Via, in.IncludePorts = "marks", nil
	case len(in.IncludePorts) == 0:
		in.Via, in.IncludePorts = "none", nil
	case a.mode == "TPROXY":
		in.Via = "tproxy"
	}
	if a.inboundPorts == "*" {
		in.ExcludePorts = portWords(a.inboundExclude) // which count only then
	}
	return in
}

// outbound leaves out of the included ports what is excluded too: exclusion
// wins in the reference.
func (a *istioArguments) outbound() (modes.Outbound, error) {
	out := modes.Outbound{
		Via: "redirect", Port: portWord(a.outboundPort),
		IncludeCIDRs: prefixWords(a.outboundCIDRs), ExcludeCIDRs: prefixWords(a.outboundExcludeCIDRs),
		ExcludePorts: portWords(a.outboundExclude),
	}
	var err error
	if star := slices.Index(out.ExcludeCIDRs, "*"); star >= 0 {
		out.ExcludeCIDRs = slices.Delete(out.ExcludeCIDRs, star, star+1)
		err = fmt.Errorf("--istio-service-exclude-cidr: %q excludes everything (leave --istio-service-cidr empty for that)", "*")
	}
	noGroup := false
	if groups, every := includedGroups(); every {
		out.ExcludeGIDs = words(os.Getenv(ownerGroupsExclude))
	} else {
		out.IncludeGIDs = words(groups)
		noGroup = len(out.IncludeGIDs) == 0
	}
	out.IncludePorts = modes.WithoutPorts(portWords(a.outboundPorts), out.ExcludePorts)
	if len(out.IncludeCIDRs)+len(out.IncludePorts) == 0 || noGroup && len(words(a.kubeVirtInterfaces)) == 0 {
		out.Via = "none"
	}
	return out, err
}

// ownTable are the kernel's routing tables, by what becomes of packets where the
// reference is told to use one. The route that it adds to table 0 goes to main, where
// the pod has its default route already, and its policy rule finds an empty table.
var ownTable = map[string]string{"0": "none", "254": "none", "255": "local"}

// routing has the reference's marks. It matches and sets whole marks, and so its
// packets with bits of others in their marks are not ours, unless markMask names
// the bits that are.
func (a *istioArguments) routing() modes.Routing {
	mask := os.Getenv(markMask)
	if a.mode != "TPROXY" {
		return modes.Routing{Mask: mask}
	}
	r := modes.Routing{Mark: a.tproxyMark, Table: a.tproxyTable, Mask: cmp.Or(mask, wholeMark)}
	if r.Mark == "0" {
		r.Mark += "/" + wholeMark
	}
	if table := ownTable[r.Table]; table != "" {
		r.Table = table
	}
	if n, err := strconv.ParseUint(a.tproxyMark, 0, 32); err == nil && n == referenceLoopMark {
		r.LoopMark = a.tproxyMark
	}
	return r
}

func (a *istioArguments) dnsCapture() string {
	switch {
	case a.redirectDNS && a.captureAllDNS:
		return "all"
	case a.redirectDNS:
		return "servers"
	}
	return "none"
}

// words splits a list at its commas. It is empty, not nil, where there are
// none: an empty list means none.
func words(list string) []string {
	out := []string{}
	for w := range strings.SplitSeq(list, ",") {
		if w = strings.TrimSpace(w); w != "" {
			out = append(out, w)
		}
	}
	return out
}

// portWord is a port as a configuration of ours has it, where 0 by itself is taken
// for a mistake.
func portWord(word string) string {
	if word == "0" {
		return "0-0"
	}
	return word
}

func portWords(list string) []string {
	out := words(list)
	for i, w := range out {
		out[i] = portWord(w)
	}
	return out
}

// interfaceNames leaves out names with an asterisk, which no interface has:
// iptables' wildcard is a plus, and an asterisk stands for itself.
func interfaceNames(list string) []string {
	return slices.DeleteFunc(words(list), hasAsterisk)
}

func hasAsterisk(name string) bool { return strings.Contains(name, "*") }

// prefixWords leaves out IPv4-mapped prefixes: to the reference they are IPv6, and
// no packet has such an address.
func prefixWords(list string) []string { return slices.DeleteFunc(words(list), isMapped) }

func isMapped(word string) bool {
	p, err := netip.ParsePrefix(word)
	return err == nil && p.Addr().Is4In6()
}

// logger logs as the reference's flags ask: the first level of a list such as
// default:info,ads:debug that names no scope, or default.
func (a *istioArguments) logger(w io.Writer) *slog.Logger {
	level, _ := logLevel(a.logLevel) // wrongWords tells what is wrong with it
	options := &slog.HandlerOptions{Level: level}
	if a.logJSON {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}

func logLevel(list string) (slog.Level, error) {
	levels := map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn,
		"error": slog.LevelError, "fatal": slog.LevelError, "none": slog.LevelError + 1}
	wanted, found := slog.LevelInfo, false
	for _, w := range words(list) {
		scope, level, scoped := strings.Cut(w, ":")
		if !scoped {
			level = scope
		}
		l, known := levels[level]
		if !known {
			return slog.LevelInfo, fmt.Errorf("--log_output_level: %q is not a level (want debug, info, warn, error, fatal or none)", term.Shorten(level))
		}
		if all := !scoped || scope == "default" || scope == "all"; all && !found {
			wanted, found = l, true
		}
	}
	return wanted, nil
}
