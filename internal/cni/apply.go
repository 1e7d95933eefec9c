//go:build linux

package cni

import (
	"context"
	"errors"
	"fmt"

	"github.com/weir-mesh/weir/capture"
	"github.com/weir-mesh/weir/internal/istio"
	"github.com/weir-mesh/weir/internal/problems"
	"github.com/weir-mesh/weir/modes"
	"github.com/weir-mesh/weir/netns"
	"github.com/weir-mesh/weir/nft"
)

// engine is the capture of a pod's namespace. Close closes both.
type engine struct {
	*capture.Capture
	ns *netns.Namespace
}

func (e engine) Close() {
	e.Capture.Close()
	e.ns.Close()
}

// open opens the namespace of a request and the capture that was decided.
func (r *request) open(ctx context.Context, d decision) (engine, error) {
	ns, err := netns.Open(r.Netns)
	if err != nil {
		return engine{}, fmt.Errorf("network namespace %s: %w", r.Netns, err)
	}
	c := d.Config
	env, err := r.environment(ctx, ns)
	if err == nil && d.FirstAddressDecides {
		c.IPv6, err = byFirstAddress(ctx, ns)
	}
	var k *capture.Capture
	if err == nil {
		k, err = capture.New(ns, c, capture.Options{Environment: &env, LoopbackLater: true})
	}
	if err != nil {
		ns.Close()
		return engine{}, err
	}
	return engine{k, ns}, nil
}

var (
	errNoImage     = errors.New("the pod's image is not there yet (want numbers)")
	errNoResolvers = errors.New("the runtime does not pass the pod's resolvers (want dns.capture: all, dns.servers, or capability dns in the network list)")
)

// environment is what is known of a pod's namespace before the pod has files.
func (r *request) environment(ctx context.Context, ns *netns.Namespace) (modes.Environment, error) {
	env, err := capture.FileEnvironment(ctx, ns, modes.Lookups{})
	if err != nil {
		return env, err
	}
	env.Users, env.Groups = map[string]uint32{}, map[string]uint32{}
	env.Unread = map[string]error{"passwd": errNoImage, "group": errNoImage}
	env.Resolvers = r.resolvers
	if len(r.resolvers) == 0 {
		env.Unread["resolv.conf"] = errNoResolvers
	}
	addresses, err := ns.Addresses(ctx)
	if err != nil {
		return env, err
	}
	env.IPv6 = netns.HasIPv6(addresses)
	lo, err := ns.Loopback(ctx)
	env.LoopbackIPv6 = lo.IPv6
	return env, err
}

// byFirstAddress is Istio's way to tell whether IPv6 is captured.
func byFirstAddress(ctx context.Context, ns *netns.Namespace) (string, error) {
	none := func(string) (string, bool) { return "", false }
	asIstio, err := istio.Parse(nil, none)
	if err != nil {
		return "", err
	}
	addresses, err := ns.Addresses(ctx)
	if err != nil {
		return "", err
	}
	if asIstio.HasIPv6(addresses) {
		return "enabled", nil
	}
	return "disabled", nil
}

// notCaptured is why an apply failed, for a runtime.
func (r *request) notCaptured(d decision, err error) error {
	remedy := "run weir doctor on the node"
	var rejected *nft.RejectedError
	switch {
	case errors.Is(err, capture.ErrHostNetwork):
		return failure(codeNotCaptured, "set hostNetwork: false, or leave the pod alone", "%s is not captured: it shares the machine's own network, in which its traffic cannot be told apart", r.pod)
	case errors.Is(err, nft.ErrNotPermitted), errors.Is(err, netns.ErrNotEntered):
		remedy = "run the container runtime with CAP_NET_ADMIN and CAP_SYS_ADMIN"
	case errors.As(err, &rejected):
		remedy = "run weir doctor on the node: the kernel lacks what this configuration needs"
	case errors.Is(err, context.DeadlineExceeded):
		remedy = "the node is too slow, or another program keeps changing the pod's ruleset; the kubelet tries again by itself"
	case isConfig(err):
		remedy = "correct it and create the pod again"
		if d.Explain != nil {
			err = d.Explain(err)
		}
	}
	return failure(codeNotCaptured, remedy, "%s is not captured: %s", r.pod, told(err))
}

func isConfig(err error) bool {
	for _, e := range problems.List(err) {
		var wrong *modes.ConfigError
		if errors.As(e, &wrong) {
			return true
		}
	}
	return false
}
