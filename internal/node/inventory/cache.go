// SPDX-License-Identifier: Apache-2.0

//go:build linux

package inventory

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
)

// Cache is the folder in which libcni keeps what it attached: every pod whose network a container runtime
// made, without the runtime, an API server or /proc.
type Cache string

const (
	maxNotes = 10_000
	maxNote  = 1 << 20 // bytes of a file
)

// Name is the folder.
func (c Cache) Name() string { return string(c) }

// note is what libcni writes of an attachment, see cachedInfo of its api.go.
type note struct {
	Kind        string      `json:"kind"`
	ContainerID string      `json:"containerId"`
	Interface   string      `json:"ifName"`
	Netns       string      `json:"netns"`
	Args        [][2]string `json:"cniArgs"`

	Capabilities struct {
		Annotations map[string]string `json:"io.kubernetes.cri.pod-annotations"`
		DNS         struct {
			Servers []string // in capitals or not
		} `json:"dns"`
	} `json:"capabilityArgs"`

	Result struct {
		IPs []struct {
			Address string `json:"address"`
		} `json:"ips"`
	} `json:"result"`
}

// loopback is the interface that a runtime attaches while the network itself is still being made.
const loopback = "lo"

// Pods reads the notes. Where there is no folder, there are none. A note that cannot be read is one less:
// libcni may be writing it. Those of lo alone do not count: until there is another one, the network's plugins are at work,
// and the pod is theirs.
func (c Cache) Pods(ctx context.Context) (out []Pod, err error) {
	files, err := os.ReadDir(string(c))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if len(files) > maxNotes {
		return nil, fmt.Errorf("it holds more than %d files", maxNotes)
	}
	at := map[string]int{} // by namespace: a pod may have several attachments
	for _, f := range files {
		if ctx.Err() != nil {
			return out, ctx.Err()
		}
		if !f.Type().IsRegular() {
			continue
		}
		n, err := readNote(filepath.Join(string(c), f.Name()))
		if err != nil || n.Netns == "" || n.Interface == loopback {
			continue
		}
		p := n.pod()
		if i, known := at[n.Netns]; known {
			p.Addresses = append(out[i].Addresses, p.Addresses...)
			out[i].Addresses = nil
			out[i] = out[i].with(p)
			continue
		}
		at[n.Netns] = len(out)
		out = append(out, p)
	}
	return out, nil
}

func readNote(path string) (n note, err error) {
	f, err := os.Open(path)
	if err != nil {
		return n, err
	}
	defer f.Close()
	return n, json.NewDecoder(io.LimitReader(f, maxNote)).Decode(&n)
}

func (n note) pod() Pod {
	p := Pod{Netns: HostPath(n.Netns), Container: n.ContainerID, Annotations: n.Capabilities.Annotations}
	for _, pair := range n.Args {
		switch pair[0] {
		case "K8S_POD_NAMESPACE":
			p.Namespace = pair[1]
		case "K8S_POD_NAME":
			p.Name = pair[1]
		case "K8S_POD_UID":
			p.UID = pair[1]
		}
	}
	for _, ip := range n.Result.IPs {
		if prefix, err := netip.ParsePrefix(ip.Address); err == nil {
			p.Addresses = append(p.Addresses, prefix.Addr().Unmap())
		} else if a, err := netip.ParseAddr(strings.TrimSpace(ip.Address)); err == nil {
			p.Addresses = append(p.Addresses, a.Unmap())
		}
	}
	for _, word := range n.Capabilities.DNS.Servers {
		if a, err := netip.ParseAddr(word); err == nil {
			p.Resolvers = append(p.Resolvers, a.WithZone(""))
		}
	}
	return p
}
