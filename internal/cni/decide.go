// SPDX-License-Identifier: Apache-2.0

//go:build linux

package cni

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/weir-mesh/weir/internal/agent"
	"github.com/weir-mesh/weir/internal/mesh"
	"github.com/weir-mesh/weir/modes"
)

// decision is what becomes of a pod.
type decision struct {
	mesh.Decision
	done bool // the agent has captured it already
}

func left(reason string) decision {
	return decision{Decision: mesh.Decision{Outcome: mesh.Left, Reason: reason}}
}

// decide decides about the pod of a request, by the source that knows most of it.
func (p *plugin) decide(ctx context.Context, r *request, command string) (decision, error) {
	switch {
	case r.settings.isReleased():
		return left("captures are released on this node: weir-node release --resume ends that"), nil
	case !r.isPod && r.pod.Consul == "":
		return r.decideContainer()
	case r.pod.Namespace == r.settings.agentNamespace && strings.HasPrefix(r.pod.Name, r.settings.agentName):
		return left("it is the node agent itself"), nil // which must start, or no query is answered
	}
	unanswered := "there is no agent: agentSocket is empty"
	if r.settings.socket != "" && r.isPod {
		answer, err := agent.Ask(ctx, r.settings.socket, r.ask(command))
		switch {
		case err != nil:
			unanswered = fmt.Sprintf("the node agent did not answer: %v", err)
		case answer.Decision == agent.Unknown:
			unanswered = "the node agent does not know the pod"
		default:
			d, err := r.answered(answer)
			if err == nil && d.Outcome == mesh.Captured && answer.ProxyContainer != r.pod.Annotations[mesh.ProxyContainerAnnotation] {
				err = r.unmarked("the node agent does not know that annotation")
			}
			return d, err
		}
	}
	d, err := p.decideAlone(ctx, r)
	if err == nil && d.ProxyContainer != "" {
		err = r.unmarked(unanswered)
	}
	if err == nil && d.Outcome == mesh.Ambient {
		err = failure(codeTryAgain, "see that the agent's pod runs on this node; the kubelet tries again by itself",
			"%s needs the node agent to be captured (%s), and %s", r.pod, d.Reason, unanswered)
	}
	return d, err
}

// unmarked refuses a pod whose proxy would be captured itself.
func (r *request) unmarked(why string) error {
	return failure(codeTryAgain, mesh.UnmarkedRemedy+"; the kubelet tries again by itself",
		"%s needs the node agent to mark the sockets of its proxy (annotation %s), and %s", r.pod, mesh.ProxyContainerAnnotation, why)
}

// isReleased reports whether the node is to be without captures, as weir-node release says.
func (s settings) isReleased() bool {
	if s.released == "" {
		return false
	}
	_, err := os.Stat(s.released)
	return err == nil
}

// decideContainer decides about a container that is no pod.
func (r *request) decideContainer() (decision, error) {
	if r.settings.config == nil {
		return left("it is not a pod, and no configuration is for others"), r.problems
	}
	return configured("config", *r.settings.config), r.problems
}

// configured is the decision that a whole configuration is.
func configured(by string, c modes.Config) decision {
	if c.Mode == modes.ModeNone {
		return left(by + ": mode is none")
	}
	return decision{Decision: mesh.Decision{Outcome: mesh.Captured, By: by, Config: c}}
}

// answered is the decision that the agent's answer is.
func (r *request) answered(a agent.Answer) (decision, error) {
	switch a.Decision {
	case agent.Refuse:
		return decision{}, failure(codeNotCaptured, a.Remedy, "%s is not captured: %s", r.pod, a.Reason)
	case agent.Done:
		d := left(a.Reason)
		d.done = true
		return d, nil
	case agent.Leave:
		return left(a.Reason), nil
	}
	c, err := mesh.PodConfig("configuration", a.Config)
	if err != nil {
		return decision{}, failure(codeNotCaptured, "see the log of the node agent", "%s is not captured: the node agent's answer: %s", r.pod, told(err))
	}
	d := configured(a.By, c)
	d.FirstAddressDecides = a.FirstAddressDecides
	return d, nil
}

// decideAlone decides by what the request, the disk and the API server tell.
func (p *plugin) decideAlone(ctx context.Context, r *request) (decision, error) {
	enrolled, err := ReadEnrolled(r.settings.enrolled)
	if err != nil {
		p.warn("what the agent left on disk is not known: %v", err)
	}
	pod := r.pod
	pod.Enrolled = enrolled.Why(pod)
	d, err := r.byRules(pod)
	asksNothing := !r.annotated && pod.Consul == ""
	if r.settings.kubeconfig == "" || err != nil || !asksNothing && d.Outcome != mesh.Ambient {
		return d, err
	}
	if p.Pod == nil {
		p.warn("kubeconfig: this program has no client of the API server (the program weir-cni has)")
		return d, nil
	}
	known, unreachable := p.Pod(ctx, r.settings.kubeconfig, pod.Namespace, pod.Name)
	if unreachable != nil {
		p.warn("%s is not known to the API server by %s: %v", pod, r.settings.kubeconfig, unreachable)
		return d, nil
	}
	known.Consul = pod.Consul
	return r.byRules(known)
}

// byRules decides by what is known of a pod.
func (r *request) byRules(pod mesh.Pod) (decision, error) {
	d, err := Node{r.settings}.Decide(pod)
	if asked := err == nil && d.Outcome != mesh.Left; asked && r.problems != nil && d.By != mesh.ConfigAnnotation {
		return decision{d, false}, failure(codeAnnotation, "correct the entry of "+Type+" in the node's network list",
			"%s is not captured: the configuration of %s: %s", pod, Type, told(r.problems))
	}
	if err != nil {
		return decision{d, false}, failure(codeAnnotation, "correct it and create the pod again, or leave the pod alone by annotation "+mesh.ConfigAnnotation+" with mode: none",
			"%s is not captured: %s", pod, told(err))
	}
	return decision{d, false}, nil
}

// Annotations by which a pod configures a sandbox that has a network stack of its own.
var sandboxAnnotations = map[string]string{"dev.gvisor.": "gVisor", "io.katacontainers.": "Kata Containers"}

// Decide decides about a pod as the plugin does.
func (n Node) Decide(pod mesh.Pod) (mesh.Decision, error) {
	d, err := n.settings.rules.Decide(pod)
	if err == nil && d.Outcome != mesh.Left {
		err = n.settings.sandbox(pod)
	}
	return d, err
}

// sandbox is an error where a pod's sandbox has a network stack of its own, past which its packets do not
// come: to gVisor the network namespace is a wire, and in Kata the stack is the virtual machine's.
func (s settings) sandbox(pod mesh.Pod) error {
	const cannot = "its packets do not pass the rules of the network namespace"
	for name := range pod.Annotations {
		for prefix, product := range sandboxAnnotations {
			if strings.HasPrefix(name, prefix) {
				return fmt.Errorf("annotation %s is of a sandbox by %s, which has a network stack of its own: %s", name, product, cannot)
			}
		}
	}
	if pod.Spec == nil {
		return nil
	}
	for _, pattern := range s.sandboxes {
		if match, _ := filepath.Match(pattern, pod.Spec.RuntimeClass); match {
			return fmt.Errorf("runtime class %s has a network stack of its own: %s", pod.Spec.RuntimeClass, cannot)
		}
	}
	return nil
}
