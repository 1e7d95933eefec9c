// SPDX-License-Identifier: Apache-2.0

//go:build linux

package node

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/weir-mesh/weir/capture"
	"github.com/weir-mesh/weir/internal/atomicfile"
	"github.com/weir-mesh/weir/internal/node/inventory"
	"github.com/weir-mesh/weir/internal/node/keep"
	"github.com/weir-mesh/weir/internal/problems"
	"github.com/weir-mesh/weir/internal/reserved"
	"github.com/weir-mesh/weir/netns"
	"github.com/weir-mesh/weir/nft"
	"github.com/weir-mesh/weir/rules"
)

// releaseFile is there while every capture of the node is out.
const releaseFile = "released.json"

// machineNetns is the machine's own network namespace: the agent and weir-node release run in it.
const machineNetns = "/proc/self/ns/net"

// Release is a node without captures, on purpose.
type Release struct {
	Since time.Time `json:"since"`
}

// releasePath is the file of a release.
func releasePath(stateDir string) string { return filepath.Join(stateDir, releaseFile) }

// Released reports whether the node is to be without captures.
func (a *Agent) Released() bool {
	_, err := os.Stat(releasePath(a.StateDir))
	return err == nil
}

// ReleaseAll takes every capture of the node out, and has the agent and the plugin keep it out until
// [Resume]. It needs neither of them, nor an API server. Each namespace from which something was removed is
// told, by table. The error joins what could not be done; everything else was.
func ReleaseAll(ctx context.Context, stateDir string, sources []inventory.Source, told func(inventory.Pod, capture.Report)) error {
	if err := os.MkdirAll(stateDir, 0o700); err != nil {
		return err
	}
	text, err := json.Marshal(Release{time.Now().UTC()})
	if err != nil {
		return err
	}
	if err := atomicfile.Write(releasePath(stateDir), append(text, '\n')); err != nil {
		return err // or the agent would put back what is removed
	}
	all, err := inventory.All(ctx, sources)
	wrong := []error{err}
	host := inventory.Pod{Netns: machineNetns} // which has the ambient mesh's own table
	for _, p := range append(all, host) {
		reports, err := releaseOne(ctx, p)
		if !errors.Is(err, netns.ErrNotExist) {
			wrong = append(wrong, err)
		}
		for _, r := range reports {
			told(p, r)
		}
	}
	return problems.Join(wrong...)
}

// releaseOne removes every table of weir's from a namespace, whatever its name.
func releaseOne(ctx context.Context, p inventory.Pod) (removed []capture.Report, err error) {
	ns, err := netns.Open(p.Netns)
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	return releaseIn(ctx, ns)
}

func releaseIn(ctx context.Context, ns *netns.Namespace) (removed []capture.Report, err error) {
	tables, err := tablesOf(ctx, ns)
	wrong := []error{err}
	for _, name := range tables {
		report, err := removeTable(ctx, ns, name)
		if wrong = append(wrong, err); err == nil && name != reserved.Escapes {
			removed = append(removed, report)
		}
	}
	return removed, problems.Join(wrong...)
}

// released leaves a namespace without captures.
func (w *look) released(known inventory.Pod) keep.Result {
	w.pod.stopCounting()
	w.pod.decide(StateReleased, known.IsPod(), true)
	w.pod.set(func(s *Status) { s.State, s.Mode, s.Wrong = StateReleased, "", nil })
	return keep.Result{}
}

// tablesOf are the names of weir's tables, by their tags.
func tablesOf(ctx context.Context, ns *netns.Namespace) (names []string, err error) {
	conn, err := ns.Nft()
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	ruleset, err := conn.RulesetWith(ctx, func(*nft.LiveTable) bool { return false })
	if err != nil {
		return nil, err
	}
	for _, t := range ruleset.Tables {
		if t.Tag != nil && t.Family == "inet" {
			names = append(names, t.Name)
		}
	}
	return names, nil
}

func removeTable(ctx context.Context, ns *netns.Namespace, name string) (capture.Report, error) {
	c, err := capture.OfState(ns, rules.State{Table: &rules.Table{Name: name}}, capture.Options{})
	if err != nil {
		return capture.Report{}, err
	}
	defer c.Close()
	return c.Remove(ctx)
}

// Resume ends a release: the agent captures again what should be captured.
func Resume(stateDir string) error {
	err := os.Remove(releasePath(stateDir))
	if errors.Is(err, fs.ErrNotExist) {
		return errors.New("the node is not released")
	}
	return err
}
