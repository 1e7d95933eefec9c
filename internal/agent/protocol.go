// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package agent is how the CNI plugin asks the node's agent about a pod: one request and one answer, each a
// line of JSON, over a unix socket. The agent knows what the plugin does not: labels, the pod's containers,
// and the proxy of the node.
//
// Both ends are here, so that neither can differ. It knows neither what a pod says nor what is done about it.
package agent

import (
	"encoding/json"
	"time"
)

// DefaultSocket is where the agent listens.
const DefaultSocket = "/run/weir/agent.sock"

// Timeout is how long the plugin waits for an answer to an ADD or a CHECK: the runtime, and the kubelet
// behind it, wait for the plugin.
const Timeout = 2 * time.Second

// noticeTimeout is how long it waits until a DEL, which wants no answer, is taken.
const noticeTimeout = 100 * time.Millisecond

// Version is the protocol's. An agent that does not know a request's version answers Unknown.
const Version = 1

// maxMessage is how many bytes a message may have: annotations have 256 KiB at most, and JSON may write each
// byte as six; a list has a few hundred bytes a pod.
const maxMessage = 4 << 20

// The commands of a request are CNI's.
const (
	Add   = "ADD"
	Check = "CHECK"
	Del   = "DEL"
	GC    = "GC"
)

// List is a command beside those of CNI: which pods the agent knows, for people.
const List = "LIST"

// Row is a pod, or a network namespace that is of none that is known, as the agent sees it.
type Row struct {
	Pod     string   `json:"pod"` // NAMESPACE/NAME, or the path of the namespace
	UID     string   `json:"uid,omitempty"`
	Netns   string   `json:"netns"`
	Mode    string   `json:"mode,omitempty"`    // of the configuration, "" where it is not captured
	By      string   `json:"by,omitempty"`      // what decided: a mesh, or an annotation
	Reason  string   `json:"reason,omitempty"`  // why it is not captured
	State   string   `json:"state"`             // captured, left, drifted, fighting, blocked, failed, newer, released, unknown
	Version string   `json:"version,omitempty"` // of the weir that wrote the rules
	Wrong   []string `json:"wrong,omitempty"`
	Writer  string   `json:"writer,omitempty"` // of the last drift
	Heals   int      `json:"heals"`            // since the agent started
	Escaped uint64   `json:"escaped"`          // packets that opened connections past the proxy, since then
}

// Request is what the plugin was told.
type Request struct {
	Version     int    `json:"version"`
	Command     string `json:"command"`
	ContainerID string `json:"containerID,omitempty"`
	Netns       string `json:"netns,omitempty"` // a path in the machine's own file system
	IfName      string `json:"ifName,omitempty"`

	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name,omitempty"`
	UID       string `json:"uid,omitempty"`

	Addresses   []string          `json:"addresses,omitempty"`   // of the attachment
	Annotations map[string]string `json:"annotations,omitempty"` // nil: the runtime passes none

	Valid []Attachment `json:"valid,omitempty"` // of a GC: all others have gone
}

// Attachment is an interface of a container.
type Attachment struct {
	ContainerID string `json:"containerID"`
	IfName      string `json:"ifName"`
}

// The decisions of an answer.
const (
	Capture = "capture" // the plugin is to capture the pod by the answer's Config
	Done    = "done"    // the agent has captured the pod, as the node's proxy needs it
	Leave   = "leave"   // the pod is not captured
	Refuse  = "refuse"  // the pod needs capture and cannot have it: it must not start
	Unknown = "unknown" // the agent does not know the pod: the plugin decides by itself
)

// Answer is what the agent knows.
type Answer struct {
	Version  int    `json:"version"`
	Decision string `json:"decision"`
	By       string `json:"by,omitempty"`     // what decided: a mesh, or an annotation
	Reason   string `json:"reason,omitempty"` // of Leave and Refuse, as users are to read it
	Remedy   string `json:"remedy,omitempty"` // of Refuse

	// Config is a whole configuration of weir's, with Capture.
	Config json.RawMessage `json:"config,omitempty"`
	// FirstAddressDecides is that IPv6 is captured only where the pod's first address is one of IPv6.
	FirstAddressDecides bool `json:"firstAddressDecides,omitempty"`
	// ProxyContainer is the container whose sockets the agent gives the proxy's mark once it is made.
	ProxyContainer string `json:"proxyContainer,omitempty"`

	Rows []Row `json:"rows,omitempty"` // of a List
}
