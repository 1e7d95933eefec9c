// SPDX-License-Identifier: Apache-2.0

//go:build linux

package node

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/weir-mesh/weir/config"
	"github.com/weir-mesh/weir/internal/agent"
	"github.com/weir-mesh/weir/internal/mesh"
	"github.com/weir-mesh/weir/internal/node/inventory"
	"github.com/weir-mesh/weir/internal/node/keep"
	"github.com/weir-mesh/weir/internal/problems"
	"github.com/weir-mesh/weir/internal/zds"
	"github.com/weir-mesh/weir/netns"
)

// Answer answers the plugin, and weir list.
func (a *Agent) Answer(ctx context.Context, q agent.Request) agent.Answer {
	switch q.Command {
	case agent.List:
		rows := a.Pods()
		slices.SortFunc(rows, func(x, y Status) int { return cmp.Or(cmp.Compare(x.Pod, y.Pod), cmp.Compare(x.Netns, y.Netns)) })
		return agent.Answer{Decision: agent.Done, Rows: rows}
	case agent.Add, agent.Check:
		a.begins(q.Netns)
		return a.decide(ctx, q)
	case agent.Del:
		a.ends(q.Netns)
	}
	a.Refresh() // an attachment has gone
	return agent.Answer{Decision: agent.Done}
}

// decide decides about a pod as the plugin would, by what only the agent knows too. Where that is nothing,
// the plugin decides by itself.
func (a *Agent) decide(ctx context.Context, q agent.Request) agent.Answer {
	if a.Released() {
		return agent.Answer{Decision: agent.Leave, Reason: "captures are released on this node: weir-node release --resume ends that"}
	}
	pod, known := mesh.Pod{}, false
	if a.Cluster != nil {
		pod, known = a.Cluster.Await(ctx, q.Namespace, q.Name, q.UID)
	}
	if !known { // while the API server is away, the file tells of pods of the ambient mesh
		pod = mesh.Pod{Namespace: q.Namespace, Name: q.Name, UID: q.UID}
		marked := q.Annotations[mesh.ProxyContainerAnnotation] != "" // which is for the agent to do
		if pod.Enrolled = a.Ambient.why(pod); pod.Enrolled == "" && !marked {
			return agent.Answer{Decision: agent.Unknown}
		}
	}
	if q.Annotations != nil {
		pod.Annotations = q.Annotations
	}
	d, err := a.Node.Decide(pod)
	if err != nil {
		return agent.Answer{Decision: agent.Refuse, Reason: told(err), Remedy: "correct it and create the pod again, or leave the pod alone by annotation " + mesh.ConfigAnnotation + " with mode: none"}
	}
	switch d.Outcome {
	case mesh.Captured:
		if d.ProxyContainer != "" && (a.Runtime == nil || !a.Runtime.Connected()) {
			return agent.Answer{Decision: agent.Refuse, Reason: errUnmarked.Error(), Remedy: mesh.UnmarkedRemedy}
		}
		text, err := config.Format(d.Config)
		if err == nil {
			text, err = yaml.YAMLToJSON(text)
		}
		if err != nil {
			return agent.Answer{Decision: agent.Unknown}
		}
		return agent.Answer{Decision: agent.Capture, By: d.By, Config: text, FirstAddressDecides: d.FirstAddressDecides, ProxyContainer: d.ProxyContainer}
	case mesh.Ambient:
		if a.Ambient == nil {
			return agent.Answer{Decision: agent.Refuse, Reason: "it needs the node's proxy (" + d.Reason + "), and the node agent runs without --ambient", Remedy: "run the node agent with --ambient"}
		}
		return a.enrolStarting(ctx, pod, q, d)
	}
	return agent.Answer{Decision: agent.Leave, Reason: d.Reason}
}

// enrolStarting puts a pod into the ambient mesh while the runtime makes its network.
func (a *Agent) enrolStarting(ctx context.Context, p mesh.Pod, q agent.Request, d mesh.Decision) agent.Answer {
	refuse := func(err error) agent.Answer {
		remedy := "see the log of the node agent; the kubelet tries again by itself"
		if errors.Is(err, zds.ErrNoProxy) {
			remedy = "see that ztunnel runs on this node; the kubelet tries again by itself"
		}
		return agent.Answer{Decision: agent.Refuse, Reason: told(err), Remedy: remedy}
	}
	known := inventory.Pod{Netns: inventory.HostPath(q.Netns), Namespace: p.Namespace, Name: p.Name, UID: p.UID, Annotations: p.Annotations}
	ns, err := netns.Open(known.Netns)
	if err != nil {
		return refuse(err)
	}
	defer ns.Close()
	ctx, cancel := context.WithTimeout(ctx, enrolStartingTime)
	defer cancel()
	w := &look{Agent: a, pod: &pod{known: known}, ns: ns, order: keep.Order{Heal: q.Command == agent.Add}}
	result := w.ambient(ctx, d, p)
	if result.Err == nil && len(result.Differences) > 0 && !result.Healed {
		result.Err = errors.New(result.Differences[0])
	}
	if result.Err != nil {
		return refuse(result.Err)
	}
	a.Refresh()
	return agent.Answer{Decision: agent.Done, By: d.By, Reason: d.Reason}
}

// enrolStartingTime is within the time that the plugin waits for an answer.
const enrolStartingTime = agent.Timeout - 300*time.Millisecond

// told is an error that joins others as one line.
func told(err error) string {
	var lines []string
	for _, e := range problems.List(err) {
		lines = append(lines, e.Error())
	}
	return strings.Join(lines, "; ")
}
