// SPDX-License-Identifier: Apache-2.0

//go:build linux

package capturetest_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/weir-mesh/weir/capture"
	"github.com/weir-mesh/weir/capture/capturetest"
	"github.com/weir-mesh/weir/internal/scratch"
	"github.com/weir-mesh/weir/modes"
	"github.com/weir-mesh/weir/netns"
	"github.com/weir-mesh/weir/rules"
)

// world is where the rows are played: the fake, or a network namespace.
type world interface {
	engine(subject, capture.Options) (capture.Engine, error)
	disturb(t *testing.T, d disturbance)
	addPods(t *testing.T, table string, pods capture.Pods)
	pods(table string) (capture.Pods, error)
}

// subject is what an engine is about: a configuration, a state or a table.
type subject struct {
	config modes.Config
	state  *rules.State
	table  string
}

// disturbance is what another program does, in both worlds.
type disturbance struct {
	table string
	edit  func(*rules.State)
	nft   string
}

type fakeWorld struct{ *capturetest.Namespace }

func (w fakeWorld) engine(s subject, o capture.Options) (capture.Engine, error) {
	switch {
	case s.state != nil:
		return orNone(w.OfState(*s.state, o))
	case s.table != "":
		return orNone(w.OfTable(s.table, o))
	}
	return orNone(w.New(s.config, o))
}

func (w fakeWorld) disturb(t *testing.T, d disturbance) {
	if err := w.Disturb(d.table, d.edit); err != nil {
		t.Fatal(err)
	}
}

func (w fakeWorld) addPods(t *testing.T, table string, pods capture.Pods) {
	if err := w.AddPods(table, pods); err != nil {
		t.Fatal(err)
	}
}

func (w fakeWorld) pods(table string) (capture.Pods, error) { return w.Pods(table) }

type kernelWorld struct {
	ns   *netns.Namespace
	made *scratch.Namespace
}

func newKernelWorld(t *testing.T, n *capturetest.Namespace) kernelWorld {
	made, err := scratch.NewNamespace()
	if err != nil {
		skipKernel(t, err)
	}
	t.Cleanup(func() { made.Close() })
	ns, err := netns.Open(made.Path())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(ns.Close)
	w := kernelWorld{ns, made}
	if n.LoopbackDown {
		w.run(t, "ip", "link", "set", "lo", "down")
	}
	return w
}

func skipKernel(t *testing.T, why error) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatalf("not compared with the kernel: %v", why)
	}
	t.Skipf("not compared with the kernel (root can make namespaces; nft and ip disturb them): %v", why)
}

// run runs a program in the namespace.
func (w kernelWorld) run(t *testing.T, name string, args ...string) {
	t.Helper()
	err := w.made.Do(func() error {
		out, err := exec.Command(name, args...).CombinedOutput()
		if err != nil {
			err = fmt.Errorf("%s %s: %w: %s", name, args, err, out)
		}
		return err
	})
	if errors.Is(err, exec.ErrNotFound) {
		skipKernel(t, err)
	} else if err != nil {
		t.Fatal(err)
	}
}

func (w kernelWorld) engine(s subject, o capture.Options) (capture.Engine, error) {
	switch {
	case s.state != nil:
		return orNone(capture.OfState(w.ns, *s.state, o))
	case s.table != "":
		return orNone(capture.OfTable(w.ns, s.table, o))
	}
	return orNone(capture.New(w.ns, s.config, o))
}

func (w kernelWorld) disturb(t *testing.T, d disturbance) { w.run(t, "nft", d.nft) }

func (w kernelWorld) addPods(t *testing.T, table string, pods capture.Pods) {
	c, err := capture.OfTable(w.ns, table, capture.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.AddPods(t.Context(), pods); err != nil {
		t.Fatal(err)
	}
}

func (w kernelWorld) pods(table string) (capture.Pods, error) {
	c, err := capture.OfTable(w.ns, table, capture.Options{})
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return c.Pods(context.Background())
}

// orNone keeps a nil pointer from becoming an engine that is not nil.
func orNone[E capture.Engine](e E, err error) (capture.Engine, error) {
	if err != nil {
		return nil, err
	}
	return e, nil
}

// step is one verb, or one thing that happens, and what comes of it in words.
type step struct {
	do   string // plan, apply, verify, remove, or what happens
	of   subject
	by   string // the version of the program
	host bool   // Options.HostNetwork
	want string

	disturb disturbance
	pods    capture.Pods
}

// play does a step, and says what came of it as far as both worlds must agree.
func (s step) play(t *testing.T, w world) string {
	switch s.do {
	case "disturb":
		w.disturb(t, s.disturb)
		return ""
	case "add pods":
		w.addPods(t, "weir", s.pods)
		return ""
	case "pods":
		pods, err := w.pods("weir")
		return fmt.Sprint(pods, kind(err))
	}
	e, err := w.engine(s.of, capture.Options{Version: s.by, HostNetwork: s.host})
	if err != nil {
		return kind(err)
	}
	if c, open := e.(*capture.Capture); open {
		defer c.Close()
	}
	switch s.do {
	case "plan":
		p, err := e.Plan(t.Context())
		if err != nil {
			return kind(err)
		}
		return strings.TrimSpace(fmt.Sprintf("%s%s %s", kind(p.Uncompared), places(p.Differences), notes(p.Notes)))
	case "verify":
		v, err := e.Verify(t.Context())
		if err != nil {
			return kind(err)
		}
		return strings.TrimSpace(fmt.Sprintf("clean=%v %s %s", v.Clean(), places(v.Differences), notes(v.Notes)))
	case "apply":
		return told(e.Apply(t.Context()))
	case "remove":
		return told(e.Remove(t.Context()))
	}
	t.Fatalf("no step %q", s.do)
	return ""
}

func told(r capture.Report, err error) string {
	if err != nil {
		return kind(err)
	}
	words := []string{string(r.Outcome)}
	for word, is := range map[string]bool{"downgrade": r.Downgrade, "loopback down": r.LoopbackDown, "host": r.HostNetwork} {
		if is {
			words = append(words, word)
		}
	}
	if r.Previous != nil {
		words = append(words, "over "+r.Previous.Version)
	}
	return strings.TrimSpace(strings.Join(words, " ") + " " + notes(r.Notes))
}

func notes(list []modes.Note) string {
	var keys []string
	for _, n := range list {
		keys = append(keys, "note on "+n.Key)
	}
	return strings.Join(keys, " ")
}

// places are where states differ, the first of them and how many.
func places(list []rules.Difference) string {
	if len(list) == 0 {
		return ""
	}
	return fmt.Sprintf("%s, %d", list[0].Where, len(list))
}

// kind is an error's, of those that a program decides on.
func kind(err error) string {
	if err == nil {
		return ""
	}
	for name, is := range map[string]error{
		"host network": capture.ErrHostNetwork, "loopback down": capture.ErrLoopbackDown,
		"empty state": capture.ErrEmptyState, "no probe set": capture.ErrNoProbeSet,
	} {
		if errors.Is(err, is) {
			return "error: " + name
		}
	}
	var config *modes.ConfigError
	if errors.As(err, &config) {
		return "error: " + config.Key
	}
	return "error: " + err.Error()
}

func sidecar(edit ...func(*modes.Config)) subject {
	c := modes.Config{Mode: modes.ModeSidecar, IPv6: "disabled", Proxy: modes.Proxy{UIDs: []string{"1337"}}}
	for _, e := range edit {
		e(&c)
	}
	return subject{config: c}
}

func without(cidrs ...string) func(*modes.Config) {
	return func(c *modes.Config) { c.Outbound.ExcludeCIDRs = cidrs }
}

func of(mode string) subject { return subject{config: modes.Config{Mode: mode, IPv6: "disabled"}} }

// byHand is a ruleset of one's own, which redirects.
func byHand() subject {
	t := &rules.Table{Name: "mine"}
	out := &rules.Chain{Name: "output", Base: &rules.Base{Type: rules.NATType, Hook: rules.Output, Priority: rules.PriorityDstNAT}}
	out.Add("the world goes through the proxy", rules.TCPDport.Is(80), rules.RedirectTo(15001))
	t.Chains = append(t.Chains, out)
	return subject{state: &rules.State{Table: t}}
}

func flushed() disturbance {
	return disturbance{"weir", func(s *rules.State) { s.Table.Chain("output").Rules = nil }, "flush chain inet weir output"}
}

func TestAgreesWithTheKernel(t *testing.T) {
	pod := capture.Pods{netip.MustParseAddr("10.244.1.7"): "1f0c"}
	weir := subject{table: "weir"}
	for _, tt := range []struct {
		why    string
		loDown bool
		steps  []step
	}{
		{why: "a life", steps: []step{
			{do: "plan", of: sidecar(), want: "table inet weir, 1"},
			{do: "verify", of: sidecar(), want: "clean=false table inet weir, 1"},
			{do: "apply", of: sidecar(), by: "v1.0.0", want: "created"},
			{do: "plan", of: sidecar()},
			{do: "verify", of: sidecar(), want: "clean=true"},
			{do: "verify", of: weir, want: "clean=true"},
			{do: "apply", of: sidecar(), by: "v1.0.0", want: "unchanged over v1.0.0"},
			{do: "remove", of: sidecar(), by: "v1.0.0", want: "removed over v1.0.0"},
			{do: "remove", of: sidecar(), want: "absent"},
			{do: "verify", of: weir, want: "clean=false table inet weir, 1"},
		}},
		{why: "a drift is seen, with a configuration and without, and heals", steps: []step{
			{do: "apply", of: sidecar(), by: "v1.0.0", want: "created"},
			{do: "disturb", disturb: flushed()},
			{do: "verify", of: weir, want: "clean=false chain output, 1"},
			{do: "apply", of: sidecar(), by: "v1.0.0", want: "replaced over v1.0.0"},
			{do: "verify", of: sidecar(), want: "clean=true"},
		}},
		{why: "other elements are an update, other rules a replacement", steps: []step{
			{do: "apply", of: sidecar(without("10.0.0.0/8")), by: "v1.0.0", want: "created"},
			{do: "apply", of: sidecar(without("10.0.0.0/8", "192.168.0.0/16")), by: "v1.0.0", want: "updated over v1.0.0"},
			{do: "apply", of: of(modes.ModeAmbientPod), by: "v1.0.0", want: "replaced over v1.0.0"},
		}},
		{why: "mode none removes", steps: []step{
			{do: "apply", of: sidecar(), by: "v1.0.0", want: "created"},
			{do: "apply", of: of(modes.ModeNone), by: "v1.0.0", want: "error: ipv6"},
			{do: "apply", of: subject{config: modes.Config{Mode: modes.ModeNone}}, by: "v1.0.0", want: "removed over v1.0.0"},
			{do: "apply", of: subject{config: modes.Config{Mode: modes.ModeNone}}, want: "absent"},
		}},
		{why: "an empty state is not applied, and removes nothing", steps: []step{
			{do: "apply", of: sidecar(), want: "created"},
			{do: "apply", of: subject{state: &rules.State{}}, want: "error: empty state"},
			{do: "apply", of: weir, want: "error: empty state"},
			{do: "plan", of: weir, want: "error: empty state"},
			{do: "verify", of: sidecar(), want: "clean=true"},
		}},
		{why: "lo is down", loDown: true, steps: []step{
			{do: "apply", of: of(modes.ModeAmbientPod), want: "error: loopback down"},
			{do: "apply", of: of(modes.ModeAmbientHost), by: "v1.0.0", want: "created"},
			{do: "apply", of: sidecar(), by: "v1.0.0", want: "replaced loopback down over v1.0.0"},
			{do: "apply", of: byHand(), want: "created loopback down"},
		}},
		{why: "an older program over a newer one's rules", steps: []step{
			{do: "apply", of: sidecar(), by: "v2.0.0", want: "created"},
			{do: "apply", of: sidecar(), by: "v1.0.0", want: "unchanged over v2.0.0"},
			{do: "apply", of: sidecar(without("10.0.0.0/8")), by: "v1.0.0", want: "replaced downgrade over v2.0.0"},
		}},
		{why: "the probe set is kept", steps: []step{
			{do: "pods", want: "map[]error: no probe set"},
			{do: "apply", of: of(modes.ModeAmbientHost), by: "v1.0.0", want: "created"},
			{do: "add pods", pods: pod},
			{do: "apply", of: subject{config: modes.Config{Mode: modes.ModeAmbientHost, IPv6: "enabled"}}, by: "v1.0.0", want: "replaced over v1.0.0"},
			{do: "pods", want: "map[10.244.1.7:1f0c]"},
			{do: "verify", of: weir, want: "clean=true"},
		}},
		{why: "what is wrong with a configuration changes nothing", steps: []step{
			{do: "apply", of: sidecar(), want: "created"},
			{do: "apply", of: subject{config: modes.Config{Mode: "none of them"}}, want: "error: mode"},
			{do: "apply", of: sidecar(func(c *modes.Config) { c.Proxy.UIDs = []string{"nobody-by-that-name"} }), want: "error: proxy.uids"},
			{do: "verify", of: sidecar(), want: "clean=true"},
		}},
		{why: "a note of the configuration", steps: []step{
			{do: "apply", of: sidecar(func(c *modes.Config) { c.IPv6 = "" }), want: "created note on ipv6"},
		}},
	} {
		t.Run(tt.why, func(t *testing.T) {
			// As of every kernel since 5.7.
			ns := &capturetest.Namespace{LoopbackDown: tt.loDown, Environment: modes.Environment{PostroutingInput: true}}
			worlds := map[string]world{"the fake": fakeWorld{ns}, "the kernel": newKernelWorld(t, ns)}
			for i, s := range tt.steps {
				var said []string
				for name, w := range worlds {
					got := s.play(t, w)
					if got != s.want {
						t.Errorf("step %d, %s: %s says %q, want %q", i, s.do, name, got, s.want)
					}
					said = append(said, got)
				}
				if len(slices.Compact(said)) > 1 {
					t.Errorf("step %d, %s: they disagree: %q", i, s.do, said)
				}
			}
		})
	}
}

// TestHostNetwork: the machine's own namespace is refused, in both worlds. Only the
// fake lets one see what happens where it is allowed.
func TestHostNetwork(t *testing.T) {
	host := fakeWorld{&capturetest.Namespace{Host: true}}
	for _, s := range []step{
		{do: "apply", of: sidecar(), want: "error: host network"},
		{do: "apply", of: byHand(), want: "error: host network"},
		{do: "apply", of: subject{config: modes.Config{Mode: modes.ModeNone}}, want: "error: host network"},
		{do: "verify", of: sidecar(), want: "clean=false table inet weir, 1"},
		{do: "apply", of: of(modes.ModeAmbientHost), want: "created"},
		{do: "remove", of: subject{table: "weir"}, by: "v1.0.0", want: "removed over dev"},
		{do: "apply", of: sidecar(), host: true, want: "created host"},
	} {
		if got := s.play(t, host); got != s.want {
			t.Errorf("%s: %q, want %q", s.do, got, s.want)
		}
	}
	ns, err := netns.OfProcess(1)
	if err != nil {
		t.Logf("not tried in the machine's own namespace: %v", err)
		return
	}
	defer ns.Close()
	if is, err := ns.IsHost(); err != nil || !is {
		t.Logf("process 1 is not in the machine's own namespace (%v)", err)
		return
	}
	for _, of := range []subject{sidecar(), byHand()} {
		if got := (step{do: "apply", of: of}).play(t, kernelWorld{ns: ns}); got != "error: host network" {
			t.Errorf("the machine's own namespace: %q", got)
		}
	}
}
