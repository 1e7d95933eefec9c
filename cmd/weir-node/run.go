// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/urfave/cli/v2"
	"github.com/weir-mesh/weir/internal/agent"
	"github.com/weir-mesh/weir/internal/cni"
	"github.com/weir-mesh/weir/internal/ledger"
	"github.com/weir-mesh/weir/internal/node"
	"github.com/weir-mesh/weir/internal/node/health"
	"github.com/weir-mesh/weir/internal/node/inventory"
	"github.com/weir-mesh/weir/internal/node/keep"
	"github.com/weir-mesh/weir/internal/node/kubeapi"
	"github.com/weir-mesh/weir/internal/node/metrics"
	"github.com/weir-mesh/weir/internal/node/nri"
	"github.com/weir-mesh/weir/internal/version"
	"github.com/weir-mesh/weir/netns"
)

// What must be so before the agent is ready.
const (
	listed = "pods"
	synced = "the API server"
)

// service is the agent with everything around it.
type service struct {
	cc      *cli.Context
	log     *slog.Logger
	options node.Options
	counts  *metrics.Metrics
	ready   health.Ready
	client  *kubeapi.Client // nil: there is no API server
	agent   *node.Agent

	works []func(context.Context) error
}

func runAgent(cc *cli.Context) error {
	s, err := newService(cc)
	if err != nil {
		return err
	}
	for _, prepare := range []func() error{s.withCluster, s.withAgent, s.withInstall, s.withServers} {
		if err := prepare(); err != nil {
			return err
		}
	}
	return s.run(cc.Context)
}

func newService(cc *cli.Context) (*service, error) {
	if cc.NArg() > 0 {
		return nil, usageError{fmt.Errorf("run: %q: it takes no arguments", cc.Args().First())}
	}
	var level slog.Level
	if err := level.UnmarshalText([]byte(cc.String("log-level"))); err != nil {
		return nil, usageError{fmt.Errorf("--log-level: %q is not a level (want debug, info, warn or error)", cc.String("log-level"))}
	}
	if mode := cc.String("repair"); !slices.Contains([]string{repairHeal, repairDelete, repairLabel}, mode) {
		return nil, usageError{fmt.Errorf("--repair: %q is not a mode (want heal, delete or label)", mode)}
	}
	if cc.Duration("sweep") <= 0 {
		return nil, usageError{fmt.Errorf("--sweep: %s is not a time", cc.Duration("sweep"))}
	}
	settings, err := readSettings(cc.String("settings"))
	if err != nil {
		return nil, err
	}
	s := &service{cc: cc, counts: metrics.New(version.String(), cc.Bool("istio-metrics"))}
	s.log = slog.New(slog.NewJSONHandler(cc.App.ErrWriter, &slog.HandlerOptions{Level: level}))
	s.options = node.Options{Node: settings, Sources: sources(cc), Log: s.log, StateDir: cc.String("state-dir"), Written: ledger.Ledger(filepath.Join(cc.String("state-dir"), "written")),
		Sweep: cc.Duration("sweep"), Limits: keep.DefaultLimits(), Tell: []node.Teller{s.counts}}
	return s, nil
}

// readSettings reads the keys of the plugin's entry; without a file they are the defaults.
func readSettings(file string) (cni.Node, error) {
	if file == "" {
		return cni.ReadNode(nil)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return cni.Node{}, fmt.Errorf("--settings: %w", err)
	}
	n, err := cni.ReadNode(text)
	if err != nil {
		return n, fmt.Errorf("--settings: %s: %w", file, err)
	}
	return n, nil
}

// withCluster asks the API server, where there is one.
func (s *service) withCluster() error {
	kubeconfig, mode := s.cc.String("kubeconfig"), s.cc.String("repair")
	if kubeconfig == "" && !kubeapi.InCluster() {
		if mode != repairHeal {
			return usageError{fmt.Errorf("--repair %s: there is no API server (want --kubeconfig)", mode)}
		}
		return nil
	}
	name := s.cc.String("node-name")
	if name == "" {
		return usageError{errors.New("--node-name: this node's name in the cluster is missing (or NODE_NAME)")}
	}
	var err error
	if s.client, err = kubeapi.Connect(kubeconfig, name, "weir-node/"+version.String(), s.log); err != nil {
		return fmt.Errorf("the API server: %w", err)
	}
	s.options.Cluster = s.client
	s.options.Tell = append(s.options.Tell, s.client)
	if mode != repairHeal {
		r := &repairer{mode, s.client, s.counts, s.log, make(chan inventory.Pod, maxRepairs)}
		s.options.Tell = append(s.options.Tell, r)
		s.works = append(s.works, func(ctx context.Context) error { r.run(ctx); return nil })
	}
	s.ready.Missing(synced, "not heard of yet: pods are decided about by their annotations")
	return nil
}

// withAgent makes the agent itself.
func (s *service) withAgent() (err error) {
	var cluster annotator
	if s.client != nil {
		cluster = s.client
	}
	s.options.Ambient = newAmbient(s.cc, cluster, func(n int) {
		s.counts.Proxies(n)
		if n > 0 {
			go s.agent.Reconsider() // pods that wait for a proxy
		}
	}, s.log)
	if side := s.options.Ambient; side != nil {
		s.counts.WatchProxies(func() int { return side.Proxy.Status().Proxies })
	}
	var runtime *nri.Runtime
	if socket := s.cc.String("nri-socket"); socket != "" {
		runtime = nri.New(socket, s.log)
		s.options.Sources = slices.Insert(s.options.Sources, 0, inventory.Source(runtime))
		s.options.Runtime = runtime
		if s.options.CgroupDir = s.cc.String("cgroup-dir"); s.options.CgroupDir == "" {
			if s.options.CgroupDir, err = netns.Cgroup2Mount(); err != nil {
				return err
			}
		}
	}
	if s.agent, err = node.New(s.options); err != nil {
		return err
	}
	if runtime != nil {
		s.works = append(s.works, func(ctx context.Context) error { return runtime.Run(ctx, s.agent) })
	}
	s.counts.Watch(s.agent)
	s.ready.Missing(listed, "not listed yet")
	s.works = append(s.works, s.agent.Run, func(ctx context.Context) error {
		select {
		case <-ctx.Done():
		case <-s.agent.Listed():
			s.ready.Done(listed)
		}
		return nil
	})
	folders := slices.DeleteFunc([]string{s.cc.String("cni-cache"), s.cc.String("netns-dir")}, func(f string) bool { return f == "" })
	s.works = append(s.works, func(ctx context.Context) error { return s.agent.WatchFolders(ctx, folders...) })
	if s.client != nil {
		s.works = append(s.works, s.followCluster)
	}
	return nil
}

// heardPause is how long to wait for more of what the API server tells, or longer where what is done about it takes more
// than a tenth of that.
const heardPause = 100 * time.Millisecond

// followCluster has the agent look again at what the API server tells.
func (s *service) followCluster(ctx context.Context) error {
	heard := make(chan struct{}, 1)
	changed := func() {
		select {
		case heard <- struct{}{}:
		default:
		}
	}
	var followers sync.WaitGroup
	followers.Go(func() {
		if !s.client.AwaitSynced(ctx) {
			return
		}
		s.ready.Done(synced)
		s.agent.Sweep()
		for {
			start := time.Now()
			s.agent.Refresh()
			s.agent.Reconsider()
			pause := max(heardPause, 10*time.Since(start))
			select {
			case <-ctx.Done():
				return
			case <-heard:
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(pause):
			}
		}
	})
	err := s.client.Run(ctx, changed, func(err error) { s.log.Warn("the API server does not answer: what is known stays", "error", err) })
	followers.Wait()
	return err
}

// withServers answers the plugin, probes and scrapes.
func (s *service) withServers() error {
	socket := s.cc.String("socket")
	if err := os.MkdirAll(filepath.Dir(socket), 0o755); err != nil {
		return fmt.Errorf("--socket: %w", err)
	}
	listener, err := agent.Listen(socket)
	if err != nil {
		return fmt.Errorf("--socket: %w", err)
	}
	s.works = append(s.works, func(ctx context.Context) error {
		return agent.Serve(ctx, listener, func(ctx context.Context, q agent.Request) agent.Answer {
			a := s.agent.Answer(ctx, q)
			s.counts.Asked(q.Command, a.Decision)
			return a
		})
	})
	if address := s.cc.String("health"); address != "" {
		s.works = append(s.works, func(ctx context.Context) error { return health.Serve(ctx, address, s.ready.Handler()) })
	}
	if address := s.cc.String("metrics"); address != "" {
		s.works = append(s.works, func(ctx context.Context) error { return health.Serve(ctx, address, s.counts.Handler()) })
	}
	return nil
}

func (s *service) withInstall() error {
	i, err := newInstaller(s.cc, s.log, &s.ready, s.counts)
	if i != nil {
		s.works = append(s.works, i.Run)
	}
	return err
}

// run works until the context ends, or one of the works fails.
func (s *service) run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var all sync.WaitGroup
	for _, work := range s.works {
		all.Go(func() {
			if err := work(ctx); err != nil {
				cancel(err)
			}
		})
	}
	s.log.Info("weir-node", "version", version.String())
	all.Wait()
	if err := context.Cause(ctx); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}
