// SPDX-License-Identifier: Apache-2.0

//go:build linux

package consul

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"

	"github.com/weir-mesh/weir/internal/meshinit"
	"github.com/weir-mesh/weir/modes"
)

// arguments are redirect-traffic's flags. They are parsed by the library that the reference uses.
type arguments struct {
	uid, id, node                    string
	inbound, outbound, dnsPort       int
	dnsIP                            string
	inPorts, outPorts, outCIDRs, ids words
	dualStack, help                  bool
}

// words are the values of a flag that may be given several times.
type words []string

func (w *words) String() string { return strings.Join(*w, ",") }

// Set takes one more.
func (w *words) Set(s string) error { *w = append(*w, s); return nil }

// ofTheClient are flags by which the reference finds Consul, which is not asked here.
var ofTheClient = []string{"http-addr", "token", "token-file", "ca-file", "ca-path", "client-cert", "client-key", "tls-server-name", "namespace", "partition"}

func (a *arguments) flags(out *meshinit.Arguments) *flag.FlagSet {
	f := flag.NewFlagSet("consul-redirect", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.StringVar(&a.uid, "proxy-uid", "", "user whose traffic is not captured (required)")
	f.StringVar(&a.id, "proxy-id", "", "refused: Consul is not asked for the proxy's registration")
	f.StringVar(&a.node, "node-name", "", "refused, as proxy-id")
	f.IntVar(&a.inbound, "proxy-inbound-port", 0, "port that inbound TCP is redirected to (required)")
	f.IntVar(&a.outbound, "proxy-outbound-port", 15001, "port that outbound TCP is redirected to")
	f.StringVar(&a.dnsIP, "consul-dns-ip", "", "server that every DNS query goes to; with consul-dns-port, queries to it alone")
	f.IntVar(&a.dnsPort, "consul-dns-port", 0, "port there, or here, that queries to it go to")
	f.Var(&a.inPorts, "exclude-inbound-port", "inbound port, range (8080:9000) or service that is left alone; may be given several times")
	f.Var(&a.outPorts, "exclude-outbound-port", "outbound one that is left alone; may be given several times")
	f.Var(&a.outCIDRs, "exclude-outbound-cidr", "destination that is left alone; may be given several times")
	f.Var(&a.ids, "exclude-uid", "user besides whose TCP is left alone; may be given several times")
	f.StringVar(&out.Namespace, "netns", "", "work in the network namespace of that path (default: the present one)")
	for _, name := range ofTheClient {
		f.String(name, "", "accepted: Consul is not asked")
	}
	f.BoolVar(&a.dualStack, "dual-stack", false, "capture IPv6 too, and IPv6's queries alone; the reference asks Consul's agent")
	f.BoolVar(&out.DryRun, "dry-run", false, "change nothing, print the plan")
	f.BoolVar(&out.PrintConfig, "print-config", false, "change nothing, print weir's own configuration that makes the same state")
	f.BoolVar(&a.help, "help", false, "print this")
	f.BoolVar(&a.help, "h", false, "print this")
	return f
}

// Flags are all flags of consul-redirect.
func Flags() (out []meshinit.Flag) {
	new(arguments).flags(new(meshinit.Arguments)).VisitAll(func(f *flag.Flag) {
		bare, ok := f.Value.(interface{ IsBoolFlag() bool })
		out = append(out, meshinit.Flag{Name: f.Name, Usage: f.Usage, Bare: ok && bare.IsBoolFlag()})
	})
	return out
}

// Parse parses redirect-traffic's command line. As in the reference, what follows the first argument
// that is not a flag is ignored. Along with a [meshinit.ArgumentError] come the arguments up to it.
func Parse(args []string, _ meshinit.Input) (*meshinit.Arguments, error) {
	a, out := new(arguments), &meshinit.Arguments{Names: names(), Level: slog.LevelInfo}
	f := a.flags(out)
	err := f.Parse(args)
	f.Visit(func(given *flag.Flag) {
		if given.Name != "token" { // a secret
			out.Given = append(out.Given, given.Name+"="+given.Value.String())
		}
		if slices.Contains(ofTheClient, given.Name) {
			out.Remarks = append(out.Remarks, "-"+given.Name+" is ignored: Consul is not asked")
		}
	})
	if a.help || errors.Is(err, flag.ErrHelp) {
		out.Help = usage(f)
		return out, nil
	}
	if err != nil {
		return out, meshinit.ArgumentError{Err: fmt.Errorf("consul-redirect: %w", withHint(err))}
	}
	if rest := f.Args(); len(rest) > 0 {
		out.Remarks = append(out.Remarks, fmt.Sprintf("%q and what follows is ignored, as in the reference", rest[0]))
	}
	if !a.dualStack {
		out.Remarks = append(out.Remarks, "IPv6 is left alone, as by the reference where Consul's agent is not dual-stack (-dual-stack captures it)")
	}
	out.Config = func(modes.Environment) (modes.Config, error) { return a.config() }
	return out, nil
}

func usage(f *flag.FlagSet) string {
	var b strings.Builder
	b.WriteString("usage: weir consul-redirect [flags], those of Consul's connect redirect-traffic\n\n")
	f.SetOutput(&b)
	f.PrintDefaults()
	return b.String()
}

// withHint adds the nearest flag to what the library says of one that is not defined.
func withHint(err error) error {
	const undefined = "flag provided but not defined: -"
	name, unknown := strings.CutPrefix(err.Error(), undefined)
	if !unknown {
		return err
	}
	var names []string
	for _, f := range Flags() {
		names = append(names, "-"+f.Name)
	}
	return fmt.Errorf("unknown flag: -%s (%s)", name, meshinit.Hint("consul-redirect", "-"+name, names))
}
