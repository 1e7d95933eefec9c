// SPDX-License-Identifier: Apache-2.0

//go:build linux

package cni

import (
	"context"
	"fmt"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/weir-mesh/weir/capture"
	"github.com/weir-mesh/weir/internal/agent"
	"github.com/weir-mesh/weir/internal/mesh"
	"github.com/weir-mesh/weir/modes"
	"github.com/weir-mesh/weir/netns"
	"github.com/weir-mesh/weir/rules"
)

// add captures the pod where it is to be, and passes on the result. It does so again, and changes nothing,
// for a second attachment of the pod.
func (p *plugin) add(ctx context.Context, r *request) error {
	d, err := p.decide(ctx, r, agent.Add)
	if err != nil {
		return err
	}
	if d.Outcome == mesh.Captured {
		if err := p.apply(ctx, r, d); err != nil {
			return r.notCaptured(d, err)
		}
	}
	return p.passOn(r)
}

func (p *plugin) apply(ctx context.Context, r *request, d decision) error {
	k, err := r.open(ctx, d)
	if err != nil {
		return err
	}
	defer k.Close()
	if k.ns.IsCurrent() {
		return capture.ErrHostNetwork // the runtime's own, which CNI forbids
	}
	report, err := k.Apply(ctx)
	for _, m := range report.Messages() {
		p.warn("%s: %s", r.pod, m)
	}
	if err != nil {
		return err
	}
	if err := r.settings.written.Note(r.ContainerID, report.State); err != nil {
		p.warn("%s: the node agent will not know later that these rules are the plugin's: %v", r.pod, err)
	}
	return nil
}

// check compares the pod's rules with what is wanted, or with what was written where that is not known any
// more.
func (p *plugin) check(ctx context.Context, r *request) error {
	d, err := p.decide(ctx, r, agent.Check)
	if err != nil {
		return err
	}
	if d.Outcome == mesh.Captured {
		found, err := r.verify(ctx, d)
		if err != nil {
			return r.notCaptured(d, err)
		}
		return r.differs(found)
	}
	ns, err := netns.Open(r.Netns)
	if err != nil {
		return fmt.Errorf("network namespace %s: %w", r.Netns, err)
	}
	defer ns.Close()
	written, err := capture.OfTable(ns, modes.DefaultTable, capture.Options{})
	if err != nil {
		return err
	}
	defer written.Close()
	v, err := written.Verify(ctx)
	if err != nil || v.Absent {
		return err
	}
	return r.differs(v.Differences)
}

func (r *request) verify(ctx context.Context, d decision) ([]rules.Difference, error) {
	k, err := r.open(ctx, d)
	if err != nil {
		return nil, err
	}
	defer k.Close()
	v, err := k.Verify(ctx)
	return v.Differences, err
}

// maxDifferences is how many differences a message tells.
const maxDifferences = 3

func (r *request) differs(found []rules.Difference) error {
	if len(found) == 0 {
		return nil
	}
	text := ""
	for _, d := range found[:min(len(found), maxDifferences)] {
		text += fmt.Sprintf("; %s", d)
	}
	if more := len(found) - maxDifferences; more > 0 {
		text += fmt.Sprintf("; and %d more", more)
	}
	return failure(codeDiffers, "create the pod again", "the rules of %s are not as they should be%s", r.pod, text)
}

// del always succeeds: what it cannot do goes with the namespace.
func (p *plugin) del(args *skel.CmdArgs) error {
	r, err := readRequest(args)
	if err != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(p.ctx, r.settings.timeout)
	defer cancel()
	if r.settings.socket != "" && r.isPod {
		_ = agent.Tell(ctx, r.settings.socket, r.ask(agent.Del)) // it may be away, and sees for itself when it is back
	}
	last, err := r.forget(ctx)
	if err != nil {
		p.warn("%s: %v", r.pod, err)
	}
	if last {
		if err := r.settings.written.Forget(r.ContainerID); err != nil {
			p.warn("%s: %v", r.pod, err)
		}
	}
	return nil
}

// forget removes what an ADD wrote, where the pod's namespace is there to stay, and reports whether nothing of it is left.
func (r *request) forget(ctx context.Context) (last bool, err error) {
	probes := r.forgetProbes(ctx)
	if r.Netns == "" {
		return true, probes
	}
	ns, err := netns.Open(r.Netns)
	if err != nil {
		return true, probes // it has gone
	}
	defer ns.Close()
	host, err := ns.IsHost()
	if err != nil || host || ns.IsCurrent() {
		return false, err
	}
	if last, err := r.isLast(ctx, ns); err != nil || !last {
		return false, err
	}
	table := modes.DefaultTable
	if d, err := r.settings.rules.Decide(r.pod); err == nil && d.Outcome == mesh.Captured {
		table = d.Config.TableName()
	}
	written, err := capture.OfTable(ns, table, capture.Options{})
	if err != nil {
		return false, err
	}
	defer written.Close()
	if _, err = written.Remove(ctx); err != nil {
		return false, err
	}
	return true, probes
}

// isLast reports whether the attachment is the last one of its pod, but for lo: the rules are for all.
func (r *request) isLast(ctx context.Context, ns *netns.Namespace) (bool, error) {
	names, err := ns.LinkNames(ctx)
	if err != nil {
		return false, err
	}
	addresses, err := ns.Addresses(ctx)
	for _, a := range addresses {
		if name := names[a.Index]; !a.Loopback() && !a.Addr().IsLinkLocalUnicast() && name != r.IfName {
			return false, err
		}
	}
	return true, err
}

// status is an error only where no ADD can be served: the kubelet takes the node's readiness away, and in
// time its pods.
func (p *plugin) status(ctx context.Context, r *request) error {
	if r.problems != nil {
		return types.NewError(codeNotAvailable, oneLine(fmt.Sprintf("the configuration of %s: %s", Type, told(r.problems)), maxReport),
			"correct the entry of "+Type+" in the network list")
	}
	own, err := capture.OfTable(netns.Current(), modes.DefaultTable, capture.Options{})
	if err != nil {
		return err
	}
	defer own.Close()
	if _, err := own.Verify(ctx); err != nil {
		return failure(codeNotAvailable, "load the module nf_tables; weir doctor tells more", "nftables cannot be used: %s", told(err))
	}
	return nil
}
