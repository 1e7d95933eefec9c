// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nri

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"reflect"
	"testing"

	"github.com/containerd/nri/pkg/api"
	"github.com/weir-mesh/weir/internal/node/inventory"
)

// node is told of pods.
type node struct {
	starting  []inventory.Pod
	refreshed int
	refuses   error

	containers []inventory.Container
}

func (n *node) Starting(_ context.Context, p inventory.Pod) error {
	n.starting = append(n.starting, p)
	return n.refuses
}

func (n *node) StartingContainer(_ context.Context, _ inventory.Pod, c inventory.Container) error {
	n.containers = append(n.containers, c)
	return n.refuses
}

func (n *node) Refresh() { n.refreshed++ }

func sandbox(id, name string, namespaces ...*api.LinuxNamespace) *api.PodSandbox {
	return &api.PodSandbox{Id: id, Name: name, Namespace: "shop", Uid: "u-" + id, Annotations: map[string]string{"a": "1"},
		Ips: []string{"10.88.0.2", "fd88::2", "no address"}, Linux: &api.LinuxPodSandbox{Namespaces: namespaces}}
}

func network(path string) *api.LinuxNamespace {
	return &api.LinuxNamespace{Type: "network", Path: path}
}

// TestRuntime: the pods that a runtime tells of are listed until they stop; one that starts is asked about first, and those
// with the machine's own network are not.
func TestRuntime(t *testing.T) {
	r, to := New("/run/nri/nri.sock", slog.New(slog.DiscardHandler)), &node{}
	p := &plugin{r, to}
	cart := inventory.Pod{Netns: "/run/netns/c", Namespace: "shop", Name: "cart", UID: "u-1", Container: "1", Annotations: map[string]string{"a": "1"},
		Addresses: []netip.Addr{netip.MustParseAddr("10.88.0.2"), netip.MustParseAddr("fd88::2")}}
	listed := func(want ...inventory.Pod) {
		t.Helper()
		got, err := r.Pods(t.Context())
		if err != nil || len(got) != len(want) || len(want) > 0 && !reflect.DeepEqual(got, want) {
			t.Errorf("it lists %+v, %v, want %+v", got, err, want)
		}
	}
	hosts := sandbox("2", "host", &api.LinuxNamespace{Type: "pid", Path: "/proc/1/ns/pid"})
	if _, err := p.Synchronize(t.Context(), []*api.PodSandbox{sandbox("1", "cart", network("/var/run/netns/c")), hosts}, []*api.Container{
		{PodSandboxId: "1", Name: "proxy", State: api.ContainerState_CONTAINER_RUNNING, Linux: &api.LinuxContainer{CgroupsPath: "/pods/1"}},
		{PodSandboxId: "1", Name: "first", State: api.ContainerState_CONTAINER_STOPPED},
		{PodSandboxId: "2", Name: "of the host", State: api.ContainerState_CONTAINER_RUNNING},
	}); err != nil {
		t.Fatal(err)
	}
	listed(cart)
	if want := []inventory.Container{{Name: "proxy", Cgroup: "/pods/1"}}; !reflect.DeepEqual(to.containers, want) || !r.Connected() {
		t.Errorf("of those that run already it tells %+v, want %+v", to.containers, want)
	}
	if len(to.starting) > 0 || to.refreshed != 1 {
		t.Errorf("those that run were told as %+v, with %d listings", to.starting, to.refreshed)
	}
	if err := p.RunPodSandbox(t.Context(), hosts); err != nil || len(to.starting) > 0 {
		t.Errorf("a pod with the machine's network: %v, %+v", err, to.starting)
	}
	if err := p.StopPodSandbox(t.Context(), sandbox("1", "cart")); err != nil {
		t.Fatal(err)
	}
	listed()
	to.refuses = errors.New("no")
	if err := p.RunPodSandbox(t.Context(), sandbox("1", "cart", network("/var/run/netns/c"))); !errors.Is(err, to.refuses) {
		t.Errorf("a pod that is refused: %v", err)
	}
	if !reflect.DeepEqual(to.starting, []inventory.Pod{cart}) {
		t.Errorf("told %+v, want %+v", to.starting, cart)
	}
	listed(cart)
	if err := p.StartContainer(t.Context(), sandbox("1", "cart", network("/var/run/netns/c")), &api.Container{Name: "app"}); !errors.Is(err, to.refuses) {
		t.Errorf("a container that is refused: %v", err)
	}
	if err := p.StartContainer(t.Context(), hosts, &api.Container{Name: "app"}); err != nil || len(to.containers) != 2 {
		t.Errorf("a container with the machine's network: %v, %+v", err, to.containers)
	}
	bare := &api.PodSandbox{Id: "3", Linux: &api.LinuxPodSandbox{Namespaces: []*api.LinuxNamespace{network("/run/netns/d")}}}
	if got := podOf(bare); got.Annotations == nil {
		t.Error("that a pod has no annotation is not known")
	}
}
