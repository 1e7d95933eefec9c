// SPDX-License-Identifier: Apache-2.0

//go:build linux

package cni

import (
	"context"
	"encoding/json"
	"errors"
	"net/netip"

	"github.com/weir-mesh/weir/capture"
	"github.com/weir-mesh/weir/internal/istio"
	"github.com/weir-mesh/weir/internal/mesh"
	"github.com/weir-mesh/weir/modes"
	"github.com/weir-mesh/weir/netns"
)

// Node is what the node's operator decided about its pods, in the keys of the plugin's entry: the node's
// agent decides by the same.
type Node struct{ settings settings }

// ReadNode reads the keys of the plugin's entry, in JSON; of none the defaults hold. The error joins every
// problem.
func ReadNode(entry []byte) (Node, error) {
	keys := map[string]json.RawMessage{}
	if len(entry) > 0 {
		var err error
		if keys, err = decodeEntry(entry); err != nil {
			return Node{}, err
		}
	}
	s, err := readSettings(keys)
	return Node{s}, err
}

// NewCapture is the capture of a pod's namespace by a decision, with what is known of it before the pod has
// files. The resolvers are the pod's, nil where they are not known.
func NewCapture(ctx context.Context, ns *netns.Namespace, d mesh.Decision, resolvers []netip.Addr, o capture.Options) (*capture.Capture, error) {
	c := d.Config
	env, addresses, err := environment(ctx, ns, resolvers)
	if err == nil && d.FirstAddressDecides {
		c.IPv6, err = byFirstAddress(addresses)
	}
	if err != nil {
		return nil, err
	}
	o.Environment = &env
	return capture.New(ns, c, o)
}

var (
	errNoImage     = errors.New("the pod's image is not there yet (want numbers)")
	errNoResolvers = errors.New("the runtime does not pass the pod's resolvers (want dns.capture: all, dns.servers, or capability dns in the network list)")
)

// environment is what is known of a pod's namespace before the pod has files, and its addresses.
func environment(ctx context.Context, ns *netns.Namespace, resolvers []netip.Addr) (modes.Environment, []netns.Address, error) {
	env, err := capture.FileEnvironment(ctx, ns, modes.Lookups{})
	if err != nil {
		return env, nil, err
	}
	env.Users, env.Groups = map[string]uint32{}, map[string]uint32{}
	env.Unread = map[string]error{"passwd": errNoImage, "group": errNoImage}
	env.Resolvers = resolvers
	if len(resolvers) == 0 {
		env.Unread["resolv.conf"] = errNoResolvers
	}
	all, err := capture.ReadInterfaces(ctx, ns, &env)
	return env, all.Addresses, err
}

// byFirstAddress is Istio's way to tell whether IPv6 is captured.
func byFirstAddress(addresses []netns.Address) (string, error) {
	none := func(string) (string, bool) { return "", false }
	asIstio, err := istio.Parse(nil, none)
	if err != nil {
		return "", err
	}
	if asIstio.HasIPv6(addresses) {
		return "enabled", nil
	}
	return "disabled", nil
}
