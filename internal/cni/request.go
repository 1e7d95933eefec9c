// SPDX-License-Identifier: Apache-2.0

//go:build linux

package cni

import (
	"encoding/json"
	"net/netip"
	"strings"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/weir-mesh/weir/internal/agent"
	"github.com/weir-mesh/weir/internal/mesh"
)

// request is what the runtime says of one call.
type request struct {
	*skel.CmdArgs
	settings   settings
	problems   error // of the settings
	version    string
	prevResult json.RawMessage // "" where there is none
	addresses  []netip.Addr    // of the attachment, as prevResult has them
	resolvers  []netip.Addr    // of the pod; nil: the runtime does not say
	pod        mesh.Pod
	isPod      bool // there is a namespace: it is a pod of Kubernetes
	annotated  bool // the runtime passes annotations
	valid      []agent.Attachment
}

// runtimeConfig is what runtimes pass to a plugin by its capabilities.
type runtimeConfig struct {
	Annotations *map[string]string `json:"io.kubernetes.cri.pod-annotations"`
	DNS         struct {
		Servers []string // Docker's and containerd's library writes them in capitals, others do not
	} `json:"dns"`
}

// result is the part of a result that is read.
type result struct {
	CNIVersion string `json:"cniVersion"`
	IPs        []struct {
		Address string `json:"address"`
	} `json:"ips"`
}

func readRequest(args *skel.CmdArgs) (*request, error) {
	entry, err := decodeEntry(args.StdinData)
	if err != nil {
		return nil, err
	}
	r := &request{CmdArgs: args}
	r.settings, r.problems = readSettings(entry)
	_ = json.Unmarshal(entry["cniVersion"], &r.version) // skel has judged it
	if previous := entry["prevResult"]; string(previous) != "null" {
		r.prevResult = previous
		r.addresses = resultAddresses(previous)
	}
	var config runtimeConfig
	if json.Unmarshal(entry["runtimeConfig"], &config) == nil {
		r.annotated = config.Annotations != nil
		for _, word := range config.DNS.Servers {
			if a, err := netip.ParseAddr(word); err == nil {
				r.resolvers = append(r.resolvers, a.WithZone(""))
			}
		}
	}
	var gc struct {
		Valid []agent.Attachment `json:"cni.dev/valid-attachments"`
	}
	_ = json.Unmarshal(args.StdinData, &gc) // a GC without the list is refused
	r.valid = gc.Valid
	r.readArgs(args.Args)
	if r.annotated {
		r.pod.Annotations = *config.Annotations
	}
	return r, nil
}

func resultAddresses(raw json.RawMessage) (out []netip.Addr) {
	var previous result
	if json.Unmarshal(raw, &previous) != nil {
		return nil // it is passed on all the same: its reader may know better
	}
	for _, ip := range previous.IPs {
		if p, err := netip.ParsePrefix(ip.Address); err == nil {
			out = append(out, p.Addr().Unmap())
		}
	}
	return out
}

// readArgs reads CNI_ARGS, whose order is random: NAME=VALUE, separated by semicolons.
func (r *request) readArgs(args string) {
	for pair := range strings.SplitSeq(args, ";") {
		name, value, _ := strings.Cut(pair, "=")
		switch name {
		case "K8S_POD_NAMESPACE":
			r.pod.Namespace = value
		case "K8S_POD_NAME":
			r.pod.Name = value
		case "K8S_POD_UID":
			r.pod.UID = value
		case "CONSUL_IPTABLES_CONFIG":
			r.pod.Consul = value
		}
	}
	r.isPod = r.pod.Namespace != ""
}

// ask is the request as the agent is told it.
func (r *request) ask(command string) agent.Request {
	q := agent.Request{
		Command: command, ContainerID: r.ContainerID, Netns: r.Netns, IfName: r.IfName,
		Namespace: r.pod.Namespace, Name: r.pod.Name, UID: r.pod.UID, Annotations: r.pod.Annotations, Valid: r.valid,
	}
	for _, a := range r.addresses {
		q.Addresses = append(q.Addresses, a.String())
	}
	return q
}
