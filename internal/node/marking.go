// SPDX-License-Identifier: Apache-2.0

//go:build linux

package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/weir-mesh/weir/capture"
	"github.com/weir-mesh/weir/internal/cgroupmark"
	"github.com/weir-mesh/weir/internal/cni"
	"github.com/weir-mesh/weir/internal/mesh"
	"github.com/weir-mesh/weir/internal/node/inventory"
	"github.com/weir-mesh/weir/netns"
)

var errUnmarked = errors.New("the sockets of its proxy's container (annotation " + mesh.ProxyContainerAnnotation + ") would not be marked, since no container runtime tells the node agent of containers before they run")

// StartingContainer gives the sockets of a container the proxy's mark where the pod names it as that of a proxy that
// cannot mark them: it is made, and nothing of it runs yet. It is safe to do twice. The error is that the container is
// not to run: without the mark the proxy's own connections would be captured.
func (a *Agent) StartingContainer(ctx context.Context, p inventory.Pod, c inventory.Container) error {
	if name := p.Annotations[mesh.ProxyContainerAnnotation]; name == "" || name != c.Name || a.Released() {
		return nil
	}
	d, err := a.Node.Decide(mesh.Pod{Namespace: p.Namespace, Name: p.Name, UID: p.UID, Annotations: p.Annotations})
	if err != nil || d.Outcome != mesh.Captured {
		return err
	}
	program, err := a.marking(ctx, p, c, d)
	if err != nil {
		return fmt.Errorf("container %s of %s: %w", c.Name, p, explained(d, err))
	}
	changed, err := program.Attach()
	if err != nil {
		return fmt.Errorf("container %s of %s: %w", c.Name, p, err)
	}
	if changed {
		a.Log.Info("the sockets of a container carry the mark of the pod's proxy", "pod", p.String(), "container", c.Name, "mark", fmt.Sprintf("%#x", program.Mark), "cgroup", program.Cgroup)
	}
	return nil
}

// marking is the program of a container whose pod is captured by a decision.
func (a *Agent) marking(ctx context.Context, p inventory.Pod, c inventory.Container, d mesh.Decision) (cgroupmark.Program, error) {
	ns, err := netns.Open(p.Netns)
	if err != nil {
		return cgroupmark.Program{}, err
	}
	defer ns.Close()
	inode, err := ns.Inode()
	if err != nil {
		return cgroupmark.Program{}, err
	}
	k, err := cni.NewCapture(ctx, ns, d, p.Resolvers, capture.Options{LoopbackLater: true})
	if err != nil {
		return cgroupmark.Program{}, err
	}
	defer k.Close()
	want, _, err := k.State(ctx)
	if err != nil {
		return cgroupmark.Program{}, err
	}
	folder := filepath.Join(a.CgroupDir, cgroupPath(c.Cgroup))
	if _, err := os.Stat(folder); err != nil || a.CgroupDir == "" || c.Cgroup == "" {
		return cgroupmark.Program{}, fmt.Errorf("its sockets cannot be marked: there is no cgroup of version 2 at %q (this needs cgroup v2 and, in a container, --cgroup-dir)", folder)
	}
	return cgroupmark.Program{Cgroup: folder, Name: cgroupmark.NameOfContainer(inode), Mark: uint32(want.ProxyMark)}, nil
}

// cgroupPath is the path of a container's cgroup below the root. Of systemd's notation, SLICE:PREFIX:NAME, the slice's
// name holds those that it is in: a-b.slice is in a.slice (systemd.slice(5)).
func cgroupPath(name string) string {
	parts := strings.Split(name, ":")
	if len(parts) != 3 {
		return filepath.Clean("/" + name)
	}
	slice, path, outer := strings.TrimSuffix(parts[0], ".slice"), "/", ""
	if slice == "" {
		slice = "system" // where runc puts it (systemd's default for services)
	}
	if slice != "-" { // the root
		for _, word := range strings.Split(slice, "-") {
			outer += word
			path = filepath.Join(path, outer+".slice")
			outer += "-"
		}
	}
	scope := parts[2] + ".scope"
	if parts[1] != "" {
		scope = parts[1] + "-" + scope
	}
	return filepath.Join(path, scope)
}
