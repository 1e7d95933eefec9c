// SPDX-License-Identifier: Apache-2.0

//go:build linux

package node

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"time"

	"github.com/weir-mesh/weir/internal/cni"
	"github.com/weir-mesh/weir/internal/mesh"
	"github.com/weir-mesh/weir/internal/node/ambient"
	"github.com/weir-mesh/weir/internal/node/keep"
	"github.com/weir-mesh/weir/internal/node/watch"
	"github.com/weir-mesh/weir/internal/zds"
	"github.com/weir-mesh/weir/netns"
)

// Ambient is what an agent does for the pods of the ambient mesh. Its methods do nothing where it is nil.
type Ambient struct {
	*ambient.Side
	Socket   string // on which the node's proxy connects
	Enrolled string // the file that the plugin reads where the agent does not answer

	events   chan func(context.Context) // one after the other
	released func() bool                // the node is to be without captures, its own table too
}

// NewAmbient is the ambient side of an agent.
func NewAmbient(o ambient.Options, socket, enrolled string) *Ambient {
	return &Ambient{Side: ambient.New(o), Socket: socket, Enrolled: enrolled, events: make(chan func(context.Context), 4096)}
}

// Times of the ambient side.
const (
	syncTime     = 10 * time.Second      // for the API server's first answer, before the proxy is told what there is
	enrolTime    = 2 * time.Second       // for the node's proxy, at each look
	hostDebounce = 50 * time.Millisecond // from a change of the host's table to a look
)

// run prepares what the proxy is told first, and serves until the context ends.
func (m *Ambient) run(ctx context.Context, a *Agent) {
	m.released = a.Released
	m.prepare(ctx, a)
	m.mendHost(ctx)
	l, err := zds.Listen(m.Socket)
	if err != nil {
		m.Log.Error("the node's proxy cannot connect", "socket", m.Socket, "error", err)
	} else {
		served := make(chan error, 1)
		go func() { served <- m.Proxy.Serve(ctx, l) }()
		defer func() { <-served; m.Proxy.Close() }()
	}
	sweep := time.NewTicker(a.Options.Sweep)
	defer sweep.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case do := <-m.events:
			do(ctx)
		case <-sweep.C:
			m.mendHost(ctx)
		}
	}
}

// prepare waits until it is known which pods are in the mesh, and makes them known to the proxies that
// connect: a proxy gives up what the snapshot does not name.
func (m *Ambient) prepare(ctx context.Context, a *Agent) {
	select {
	case <-a.listed:
	case <-ctx.Done():
		return
	}
	if a.Cluster != nil {
		limited, cancel := context.WithTimeout(ctx, syncTime)
		a.Cluster.AwaitSynced(limited)
		cancel()
	}
	for _, p := range a.known() {
		known := p.snapshot()
		described := a.describe(p)
		if d, err := a.Node.Decide(described); err != nil || d.Outcome != mesh.Ambient {
			continue
		}
		if err := m.prepareOne(ctx, a, described, known.Netns); err != nil && !errors.Is(err, netns.ErrNotExist) {
			m.Log.Warn("the node's proxy is not told of a pod yet", "pod", known.String(), "error", err)
		}
	}
	if a.Cluster == nil {
		return
	}
	for _, p := range a.Cluster.Pods() {
		if p.Annotations[ambient.Redirection] == ambient.Enabled && !m.Has(p.UID) {
			_ = m.Prepare(m.pod(a, p, nil), nil) // which fails with a namespace alone
		}
	}
}

func (m *Ambient) prepareOne(ctx context.Context, a *Agent, described mesh.Pod, path string) error {
	ns, err := netns.Open(path)
	if err != nil {
		return err
	}
	defer ns.Close()
	addresses, err := addressesIn(ctx, ns)
	if err != nil {
		return err
	}
	return m.Prepare(m.pod(a, described, addresses), ns)
}

func (m *Ambient) pod(a *Agent, p mesh.Pod, addresses []netip.Addr) ambient.Pod {
	out := ambient.Pod{Workload: zds.Workload{UID: p.UID, Name: p.Name, Namespace: p.Namespace}, Addresses: addresses}
	if a.Cluster != nil {
		out.ServiceAccount = a.Cluster.ServiceAccount(p.Namespace, p.Name)
	}
	return out
}

// addressesIn are those at which a namespace is reached.
func addressesIn(ctx context.Context, ns *netns.Namespace) (out []netip.Addr, err error) {
	all, err := ns.Addresses(ctx)
	for _, a := range all {
		if ip := a.Addr(); !a.Loopback() && !ip.IsLoopback() && !ip.IsLinkLocalUnicast() {
			out = append(out, ip)
		}
	}
	return out, err
}

// later has something done in its turn. Where too much waits, the next sweep makes it good.
func (m *Ambient) later(do func(context.Context)) {
	select {
	case m.events <- do:
	default:
	}
}

// look looks at the host's table soon.
func (m *Ambient) look() {
	if m != nil {
		m.later(m.mendHost)
	}
}

func (m *Ambient) has(uid string) bool { return m != nil && uid != "" && m.Has(uid) }

// why is why a pod is in the mesh by the file, for which its spec need not be known.
func (m *Ambient) why(p mesh.Pod) string {
	if m == nil {
		return ""
	}
	e, err := cni.ReadEnrolled(m.Enrolled)
	if err != nil {
		m.Log.Warn("which pods are in the ambient mesh is not known while the API server is away", "error", err)
	}
	return e.Why(p)
}

// gone takes a pod out whose namespace has gone.
func (m *Ambient) gone(p *pod, key keep.Key) {
	if m == nil || p == nil {
		return
	}
	uid := p.snapshot().UID
	m.later(func(ctx context.Context) {
		if err := m.Gone(ctx, uid, uint64(key)); err != nil {
			m.Log.Warn("a pod that has gone is not forgotten yet", "uid", uid, "error", err)
		}
	})
}

// hostChanged looks at the host's table after somebody changed it.
func (m *Ambient) hostChanged(c watch.Change) {
	if m == nil {
		return
	}
	for table := range c.Tables {
		if ours(table) {
			time.AfterFunc(hostDebounce, m.look)
			return
		}
	}
}

func (m *Ambient) mendHost(ctx context.Context) {
	if m.released() {
		return
	}
	found, err := m.Mend(ctx)
	switch {
	case err != nil && ctx.Err() == nil:
		m.Log.Error("the kubelet's probes of ambient pods may fail", "error", err)
	case len(found) > 0:
		m.Log.Warn("the node's own table was not as it should be, and was healed", "found", found)
	}
}

// writeEnrolled leaves for the plugin what it cannot know when the agent is away. What an API server has not
// told yet is not written over what it told before.
func (m *Ambient) writeEnrolled(a *Agent) {
	if m == nil || a.Cluster == nil || !a.Cluster.Synced() {
		return
	}
	namespaces := a.Cluster.Namespaces(mesh.DataplaneMode, mesh.DataplaneAmbient)
	var pods, except []string
	for _, p := range a.Cluster.Pods() {
		d, err := a.Node.Decide(p)
		in := err == nil && d.Outcome == mesh.Ambient
		switch name := p.Namespace + "/" + p.Name; {
		case in:
			pods = append(pods, name)
		case slices.Contains(namespaces, p.Namespace):
			except = append(except, name)
		}
	}
	if err := ambient.WriteEnrolled(m.Enrolled, namespaces, pods, except); err != nil {
		m.Log.Error("the plugin will not know what is in the ambient mesh when the agent is away", "error", err)
	}
}
