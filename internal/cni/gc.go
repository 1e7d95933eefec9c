// SPDX-License-Identifier: Apache-2.0

//go:build linux

package cni

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/weir-mesh/weir/capture"
	"github.com/weir-mesh/weir/internal/agent"
	"github.com/weir-mesh/weir/modes"
	"github.com/weir-mesh/weir/netns"
)

// gc prunes what belongs to no attachment any more: the agent is told, and pods that have gone leave the
// host's probe set.
func (p *plugin) gc(ctx context.Context, r *request) error {
	if r.settings.socket != "" {
		_ = agent.Tell(ctx, r.settings.socket, r.ask(agent.GC)) // it may be away, and sees for itself when it is back
	}
	return p.pruneProbes(ctx, r)
}

// pruneProbes deletes from the probe set the addresses that no attachment of this node has. Only libcni's
// own notes tell the addresses of all attachments, this network's and others'; without them nothing is
// pruned.
func (p *plugin) pruneProbes(ctx context.Context, r *request) error {
	host, err := hostProbes()
	if err != nil {
		return err
	}
	defer host.Close()
	pods, err := host.Pods(ctx)
	if errors.Is(err, capture.ErrNoProbeSet) || err == nil && len(pods) == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	live, err := readAttachments(r.settings.results)
	if err != nil {
		p.warn("the probe set is not pruned: %v", err)
		return nil
	}
	for _, a := range r.valid {
		if !live.containers[a.ContainerID] {
			p.warn("the probe set is not pruned: %s knows nothing of container %s", r.settings.results, a.ContainerID)
			return nil
		}
	}
	gone := capture.Pods{}
	for address, uid := range pods {
		if !live.addresses[address] && !live.uids[uid] {
			gone[address] = uid
		}
	}
	_, err = host.DeletePods(ctx, gone)
	return err
}

// hostProbes is the capture whose probe set is the machine's.
func hostProbes() (*capture.Capture, error) {
	return capture.OfTable(netns.Current(), modes.DefaultTable, capture.Options{})
}

// forgetProbes deletes the pod's addresses from the probe set. That there is none is not an error.
func (r *request) forgetProbes(ctx context.Context) error {
	if capture.CheckPodUID(r.pod.UID) != nil || len(r.addresses) == 0 {
		return nil
	}
	host, err := hostProbes()
	if err != nil {
		return err
	}
	defer host.Close()
	pods := capture.Pods{}
	for _, a := range r.addresses {
		if capture.CheckPodAddress(a) == nil {
			pods[a] = r.pod.UID
		}
	}
	_, err = host.DeletePods(ctx, pods)
	return err
}

// attachments are what libcni knows to be attached.
type attachments struct {
	containers map[string]bool
	addresses  map[netip.Addr]bool
	uids       map[string]bool
}

// attachment is a note of libcni's, one a file.
type attachment struct {
	ContainerID string      `json:"containerId"`
	CNIArgs     [][2]string `json:"cniArgs"`
	Result      json.RawMessage
}

const (
	maxAttachments = 10_000
	maxAttachment  = 1 << 20 // bytes of a file
)

func readAttachments(folder string) (attachments, error) {
	all := attachments{map[string]bool{}, map[netip.Addr]bool{}, map[string]bool{}}
	files, err := os.ReadDir(folder)
	if err != nil {
		return all, err
	}
	if len(files) > maxAttachments {
		return all, fmt.Errorf("%s holds more than %d files", folder, maxAttachments)
	}
	for _, f := range files {
		if !f.Type().IsRegular() {
			continue
		}
		a, err := readAttachment(filepath.Join(folder, f.Name()))
		if errors.Is(err, os.ErrNotExist) {
			continue // it was detached meanwhile
		}
		if err != nil {
			return all, err
		}
		all.containers[a.ContainerID] = true
		for _, pair := range a.CNIArgs {
			if pair[0] == "K8S_POD_UID" {
				all.uids[pair[1]] = true
			}
		}
		for _, address := range resultAddresses(a.Result) {
			all.addresses[address] = true
		}
	}
	return all, nil
}

func readAttachment(path string) (a attachment, err error) {
	f, err := os.Open(path)
	if err != nil {
		return a, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxAttachment))
	if err != nil {
		return a, err
	}
	if err := json.Unmarshal(text, &a); err != nil {
		return a, fmt.Errorf("%s: %w", path, err)
	}
	return a, nil
}
