package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"strings"

	"github.com/urfave/cli/v2"
	"github.com/weir-mesh/weir/capture"
	"github.com/weir-mesh/weir/internal/problems"
	"github.com/weir-mesh/weir/modes"
	"github.com/weir-mesh/weir/netns"
	"github.com/weir-mesh/weir/rules"
)

func istioInitCommand() *cli.Command {
	return &cli.Command{
		Usage: "take istio-init's own arguments and environment, and do what it does to every packet",
		Description: "Example: weir istio-init -p 15001 -z 15006 -u 1337 -m REDIRECT -i '*' -x '' -b '*' -d 15090,15021,15020\n\n" +
			"weir istio-init --help lists the flags.",
		SkipFlagParsing: true, // istioArguments parses as the reference does
		Action: func(cc *cli.Context) error {
			a, err := parseIstio(cc.Args().Slice())
			if a.help {
				_, err := fmt.Fprint(cc.App.Writer, a.usage())
				return err
			}
			log := a.logger(cc.App.ErrWriter)
			if err == nil {
				err = istioInit(cc, a, log)
			}
			writeTerminationLog(err)
			if err != nil {
				log.Error(withPermit(err).Error())
				return toldError{err}
			}
			return nil
		},
	}
}

func istioInit(cc *cli.Context, a *istioArguments, log *slog.Logger) error {
	t, err := a.target()
	if err != nil {
		return err
	}
	j := newJob(cc, t, nil)
	defer j.close()
	limit := defaultTimeout + a.probeTimeout
	ctx, cancel := context.WithTimeoutCause(cc.Context, limit, fmt.Errorf("it took longer than %s", limit))
	defer cancel()
	return whyEnded(ctx, j.istioInit(ctx, a, log))
}

// target is the namespace that --network-namespace names. The reference is told
// one by a CNI plugin that has entered it already.
func (a *istioArguments) target() (*netns.Namespace, error) {
	here := netns.Current()
	if a.networkNamespace == "" {
		return here, nil
	}
	t, err := namedTarget("--network-namespace", a.networkNamespace)
	if err == nil && t.IsCurrent() {
		t.Close()
		return here, nil
	}
	return t, err
}

func (j *job) istioInit(ctx context.Context, a *istioArguments, log *slog.Logger) error {
	log.Info("arguments", "flags", a.given(), "environment", a.environ())
	for _, w := range a.remarks() {
		log.Warn(w)
	}
	if a.cleanupOnly && !a.dryRun && !a.skipRuleApply && !a.printConfig {
		return j.istioCleanup(ctx, log)
	}
	env, err := capture.FileEnvironment(ctx, j.target, modes.Lookups{Users: a.proxyUID == ""})
	if err != nil {
		return err
	}
	c, err := a.config(env)
	if err != nil {
		return err
	}
	if err := capture.LookUp(ctx, j.target, &env, c.Lookups()); err != nil {
		return err
	}
	connectErr := j.connect(ctx)
	if err := j.istioNetwork(ctx, a, &c, &env); err != nil {
		return err
	}
	if a.printConfig {
		return printConfig(j.out, c, a.remarks())
	}
	var resolved strings.Builder
	if err := printConfig(&resolved, c, nil); err != nil {
		return err
	}
	j.logText(a, log, "resolved configuration", "yaml", resolved.String())
	want, notes, err := modes.State(c, env)
	if err != nil {
		return wrongState(err, istioNames)
	}
	for _, n := range notes {
		n.Key, n.Text = cmp.Or(istioFlagOf[n.Key], n.Key), inTheirWords(n.Text)
		log.Info(n.String())
	}
	switch {
	case a.dryRun:
		return j.istioDryRun(a, want)
	case a.skipRuleApply:
		log.Info("the rules are left as they are", "because", "skip-rule-apply")
	case connectErr != nil:
		return connectErr
	default:
		if err := j.istioApply(ctx, a, want, log); err != nil {
			return err
		}
	}
	if a.runValidation {
		return j.validate(ctx, a, c, env, want, connectErr, log)
	}
	return nil
}

func (j *job) istioDryRun(a *istioArguments, want rules.State) error {
	plan := want.String()
	if a.cleanupOnly {
		plan = fmt.Sprintf("# everything of table inet %s is removed, with its routing\n", j.table)
	}
	if file := os.Getenv(dryRunFile); file != "" {
		if err := os.WriteFile(file, []byte(plan), 0o644); err != nil {
			return fmt.Errorf("%s: %w", dryRunFile, err)
		}
	}
	_, err := io.WriteString(j.out, plan)
	return err
}

func (j *job) istioApply(ctx context.Context, a *istioArguments, want rules.State, log *slog.Logger) error {
	k, err := capture.OfState(j.target, want, capture.Options{HostNetwork: true})
	if err != nil {
		return err
	}
	defer k.Close()
	r, err := k.Apply(ctx)
	if r.HostNetwork {
		log.Warn("this is the machine's own network namespace: everything on it is captured")
	}
	if err != nil {
		return err
	}
	j.logApplied(a, log, want, r)
	return nil
}

func (j *job) istioCleanup(ctx context.Context, log *slog.Logger) error {
	k, err := capture.OfTable(j.target, j.table, capture.Options{Removing: func(captured capture.Captured) {
		log.Warn(fmt.Sprintf("%s will be reset (weir remove --drain 30s lets them end)", captured))
	}})
	if err != nil {
		return err
	}
	defer k.Close()
	r, err := k.Remove(ctx)
	if err != nil {
		return err
	}
	for _, m := range r.Messages() {
		log.Warn(m.Text)
	}
	log.Info("cleaned up", "outcome", r.Outcome, "table", r.Table, "reset", r.Reset)
	return nil
}

// istioNetwork fills in what the namespace's interfaces tell, where they can be
// read: that takes no privilege.
func (j *job) istioNetwork(ctx context.Context, a *istioArguments, c *modes.Config, env *modes.Environment) error {
	c.IPv6 = "disabled"
	if j.conn == nil {
		return nil
	}
	addresses, err := j.target.Addresses(ctx)
	if err != nil {
		return err
	}
	if istioIPv6(addresses, a.dualStack) {
		c.IPv6 = "enabled"
	}
	lo, err := j.target.Loopback(ctx)
	env.LoopbackIPv6 = lo.IPv6
	return err
}

// passthroughIPv6 is the address that a run adds to lo.
var passthroughIPv6 = netip.MustParseAddr("::6")

// istioIPv6 decides as the reference does, and depends on the order of
// addresses as it does: the first one that is neither loopback nor link-local
// decides, or with dual stack any of IPv6. What an earlier run added to lo is no
// sign of IPv6.
func istioIPv6(addresses []netns.Address, dualStack bool) bool {
	for _, a := range addresses {
		if a.Addr().IsLoopback() || a.Addr().IsLinkLocalUnicast() || a.Loopback() && a.Addr() == passthroughIPv6 {
			continue
		}
		if a.Addr().Is6() || !dualStack {
			return a.Addr().Is6()
		}
	}
	return false
}

// istioNames says problems in the words of the reference's flags.
func istioNames(err error) error {
	var out []error
	for _, e := range problems.List(err) {
		var config *modes.ConfigError
		if errors.As(e, &config) && istioFlagOf[config.Key] != "" {
			named := *config
			named.Key = istioFlagOf[config.Key]
			named.Problem = inTheirWords(config.Problem)
			e = &named
		}
		out = append(out, e)
	}
	return errors.Join(out...)
}

// inTheirWords names in the reference's words what a text names in ours.
func inTheirWords(text string) string {
	pairs := []string{
		"inbound.via: none", "an empty --istio-inbound-ports",
		"outbound.via: none", "an empty --istio-service-cidr",
	}
	for key, flag := range istioFlagOf {
		pairs = append(pairs, key, flag)
	}
	return strings.NewReplacer(pairs...).Replace(text)
}

const maxLogged = 200 // elements of a set

func (j *job) logApplied(a *istioArguments, log *slog.Logger, want rules.State, r capture.Report) {
	j.logText(a, log, "ruleset as applied", "nft", want.Abridged(maxLogged))
	for _, m := range r.Messages() {
		log.Warn(m.Text)
	}
	log.Info("applied", "outcome", r.Outcome, "table", want.Table.Name, "state", want.Hash(), "kept", r.Kept,
		"read", r.Read.String(), "commit", r.Commit.String(), "verify", r.Verify.String())
}

// logText logs a text of many lines, which stay lines where a person reads them.
func (j *job) logText(a *istioArguments, log *slog.Logger, what, key, text string) {
	if a.logJSON {
		log.Info(what, key, text)
	} else if log.Enabled(context.Background(), slog.LevelInfo) {
		log.Info(what + ":")
		fmt.Fprint(j.err, text)
	}
}

const terminationLog = "/dev/termination-log"

// writeTerminationLog tells the kubelet why, which `kubectl describe pod` then
// shows; a success takes away what an earlier run of the container said. Outside of
// a pod there is no such file, and none is made.
func writeTerminationLog(err error) {
	f, openErr := os.OpenFile(terminationLog, os.O_WRONLY|os.O_TRUNC, 0)
	if openErr != nil {
		return
	}
	defer f.Close()
	if err != nil {
		fmt.Fprintln(f, "weir:", withPermit(err))
	}
}
