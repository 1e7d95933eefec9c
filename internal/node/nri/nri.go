// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package nri hears of pods from the container runtime itself, by its Node Resource Interface (containerd 2, CRI-O): once a
// pod's network is made and before a container of it runs, whatever the network's list of plugins says.
package nri

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containerd/nri/pkg/api"
	"github.com/containerd/nri/pkg/stub"
	"github.com/weir-mesh/weir/internal/node/inventory"
)

const (
	pluginName  = "weir-node"
	pluginIndex = "90" // after plugins that may change the pod
	retryPause  = time.Second
	maxRetry    = time.Minute
	// startTime is less than the two seconds after which containerd goes on without a plugin (plugin_request_timeout).
	startTime = 1500 * time.Millisecond
)

// Runtime is what a runtime tells. It is an inventory.Source of the pods that run.
type Runtime struct {
	socket string
	log    *slog.Logger

	connected atomic.Bool

	mu   sync.Mutex
	pods map[string]inventory.Pod // by sandbox
}

// New is a runtime that is not connected yet.
func New(socket string, log *slog.Logger) *Runtime {
	return &Runtime{socket: socket, log: log, pods: map[string]inventory.Pod{}}
}

// Name is the runtime's socket.
func (r *Runtime) Name() string { return r.socket }

// Pods are those that the runtime has told of.
func (r *Runtime) Pods(context.Context) ([]inventory.Pod, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Collect(maps.Values(r.pods)), nil
}

// Connected reports whether the runtime tells of pods and containers at this moment.
func (r *Runtime) Connected() bool { return r.connected.Load() }

// Node is whom the runtime's pods are told.
type Node interface {
	// Starting is a pod whose containers are to run next. An error keeps it from starting.
	Starting(context.Context, inventory.Pod) error
	// StartingContainer is a container that is made, and runs next. An error keeps it from running. It is told of
	// those that run already too.
	StartingContainer(context.Context, inventory.Pod, inventory.Container) error
	// Refresh has the pods listed again.
	Refresh()
}

// Run connects, again and again, until the context ends. While the runtime does not answer, what it told stays.
func (r *Runtime) Run(ctx context.Context, to Node) error {
	for pause := retryPause; ctx.Err() == nil; pause = min(2*pause, maxRetry) {
		start := time.Now()
		err := r.serve(ctx, to)
		if time.Since(start) > maxRetry {
			pause = retryPause
		}
		level := slog.LevelWarn
		if errors.Is(err, fs.ErrNotExist) {
			level = slog.LevelDebug // a runtime without
		}
		if ctx.Err() == nil {
			r.log.Log(ctx, level, "the container runtime does not tell of pods", "socket", r.socket, "error", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
	return nil
}

// serve is one connection.
func (r *Runtime) serve(ctx context.Context, to Node) error {
	closed := make(chan struct{})
	s, err := stub.New(&plugin{r, to}, stub.WithPluginName(pluginName), stub.WithPluginIdx(pluginIndex), stub.WithSocketPath(r.socket),
		stub.WithOnClose(sync.OnceFunc(func() { close(closed) })), stub.WithLogger(quiet{r.log}))
	if err != nil {
		return err
	}
	if err := s.Start(ctx); err != nil {
		return err
	}
	defer s.Stop()
	defer r.connected.Store(false)
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-closed:
		return errors.New("the runtime closed the connection")
	}
}

// plugin is what the runtime calls.
type plugin struct {
	*Runtime
	to Node
}

// Synchronize is told of the pods that run already.
func (p *plugin) Synchronize(ctx context.Context, sandboxes []*api.PodSandbox, containers []*api.Container) ([]*api.ContainerUpdate, error) {
	all := map[string]inventory.Pod{}
	for _, s := range sandboxes {
		if pod := podOf(s); pod.Netns != "" {
			all[pod.Container] = pod
		}
	}
	p.mu.Lock()
	p.pods = all
	p.mu.Unlock()
	p.connected.Store(true)
	for _, c := range containers {
		pod, known := all[c.GetPodSandboxId()]
		running := c.GetState() == api.ContainerState_CONTAINER_RUNNING
		if !known || !running {
			continue
		}
		if err := p.to.StartingContainer(ctx, pod, containerOf(c)); err != nil {
			p.log.Warn("a container runs whose sockets are not marked", "pod", pod.String(), "container", c.GetName(), "error", err)
		}
	}
	p.log.Info("the container runtime tells of pods", "socket", p.socket, "pods", len(all))
	p.to.Refresh()
	return nil, nil
}

// RunPodSandbox is told of a pod whose network is made, and of whose containers none runs.
func (p *plugin) RunPodSandbox(ctx context.Context, s *api.PodSandbox) error {
	pod := podOf(s)
	if pod.Netns == "" {
		return nil // the machine's own network
	}
	p.mu.Lock()
	p.pods[pod.Container] = pod
	p.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	return p.to.Starting(ctx, pod)
}

// StartContainer is told of a container that is made, and of which nothing runs.
func (p *plugin) StartContainer(ctx context.Context, s *api.PodSandbox, c *api.Container) error {
	pod := podOf(s)
	if pod.Netns == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	return p.to.StartingContainer(ctx, pod, containerOf(c))
}

func containerOf(c *api.Container) inventory.Container {
	return inventory.Container{Name: c.GetName(), Cgroup: c.GetLinux().GetCgroupsPath()}
}

// StopPodSandbox is told of a pod whose network goes.
func (p *plugin) StopPodSandbox(_ context.Context, s *api.PodSandbox) error {
	p.mu.Lock()
	delete(p.pods, s.GetId())
	p.mu.Unlock()
	p.to.Refresh()
	return nil
}

// podOf is a pod as the runtime describes it; without a path of a namespace where it has the machine's network.
func podOf(s *api.PodSandbox) inventory.Pod {
	p := inventory.Pod{Namespace: s.GetNamespace(), Name: s.GetName(), UID: s.GetUid(), Container: s.GetId(), Annotations: s.GetAnnotations()}
	if p.Annotations == nil {
		p.Annotations = map[string]string{}
	}
	for _, n := range s.GetLinux().GetNamespaces() {
		if n.GetType() == "network" {
			p.Netns = inventory.HostPath(n.GetPath())
		}
	}
	for _, word := range s.GetIps() {
		if ip, err := netip.ParseAddr(word); err == nil {
			p.Addresses = append(p.Addresses, ip.Unmap())
		}
	}
	return p
}

// quiet logs what the protocol's library says of itself where debugging is asked for: what matters is an error of Run.
type quiet struct{ *slog.Logger }

// Debugf, like those below, is of the library's interface of loggers.
func (q quiet) Debugf(ctx context.Context, format string, args ...any) {
	q.DebugContext(ctx, "nri: "+fmt.Sprintf(format, args...))
}
func (q quiet) Infof(ctx context.Context, format string, args ...any) { q.Debugf(ctx, format, args...) }
func (q quiet) Warnf(ctx context.Context, format string, args ...any) { q.Debugf(ctx, format, args...) }
func (q quiet) Errorf(ctx context.Context, format string, args ...any) {
	q.Debugf(ctx, format, args...)
}
