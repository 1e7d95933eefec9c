// SPDX-License-Identifier: Apache-2.0

//go:build linux

package capture

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/weir-mesh/weir/capture/internal/policy"
	"github.com/weir-mesh/weir/internal/term"
	"github.com/weir-mesh/weir/rules"
)

// Pods are the UIDs of a node's pods by their addresses: the probe set of mode
// ambient-host, which keeps the kubelet's probes of these pods away from the proxy. It
// is run-time state: an apply keeps it, and no verdict or plan tells of it.
type Pods map[netip.Addr]string

// PodChange counts addresses of the probe set that were changed.
type PodChange struct {
	Added, Moved, Deleted int // Moved: from one pod to another
}

// Pods reads the probe set. The error matches ErrNoProbeSet where there is none.
func (c *Capture) Pods(ctx context.Context) (Pods, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.connect(ctx, nil); err != nil {
		return nil, err
	}
	live, err := c.conn.Read(ctx, c.table)
	if err != nil {
		return nil, err
	}
	p, err := policy.NewProbeSet(live.State.Table)
	if err != nil {
		return nil, c.tableError(err)
	}
	return p.Now, nil
}

// AddPods adds addresses to the probe set; one that another pod has is taken from it.
// The error joins what is wrong with UIDs and addresses, or matches ErrNoProbeSet.
func (c *Capture) AddPods(ctx context.Context, pods Pods) (PodChange, error) {
	return c.changePods(ctx, pods, func(p *policy.ProbeSet) { p.Add(pods) })
}

// DeletePods deletes addresses from the probe set that are still those pods'. Without
// a probe set there is nothing to delete, and no error.
func (c *Capture) DeletePods(ctx context.Context, pods Pods) (PodChange, error) {
	change, err := c.changePods(ctx, pods, func(p *policy.ProbeSet) { p.Delete(pods) })
	if errors.Is(err, ErrNoProbeSet) {
		return PodChange{}, nil
	}
	return change, err
}

// SetPods makes the probe set hold exactly these, in one step; errors are those of
// AddPods.
func (c *Capture) SetPods(ctx context.Context, pods Pods) (PodChange, error) {
	return c.changePods(ctx, pods, func(p *policy.ProbeSet) { p.Set(pods) })
}

// CheckPodUID is an error where a word cannot be the UID of a pod of the probe set: it
// must fit the comment of an element, and stand as a word in a line.
func CheckPodUID(uid string) error {
	misfit := func(r rune) bool { return r == '"' || r == '#' || unicode.IsSpace(r) || !unicode.IsPrint(r) }
	if uid == "" || len(uid) > rules.MaxComment || !utf8.ValidString(uid) || strings.ContainsFunc(uid, misfit) {
		return fmt.Errorf("%q is not a UID (want 1-%d bytes without blanks, quotes and #)", term.Shorten(uid), rules.MaxComment)
	}
	return nil
}

// CheckPodAddress is an error where no pod can have the address.
func CheckPodAddress(a netip.Addr) error {
	switch {
	case !a.IsValid():
		return errors.New("an address is missing")
	case a.Is4In6():
		return fmt.Errorf("%q is an IPv4-mapped address (write it as IPv4)", a)
	case a.Zone() != "" || a.IsUnspecified() || a.IsMulticast() || a.IsLoopback():
		return fmt.Errorf("%q is not a pod's address", a)
	}
	return nil
}

// Check joins what CheckPodUID and CheckPodAddress say of each.
func (p Pods) Check() error {
	var problems []error
	for _, a := range slices.SortedFunc(maps.Keys(p), netip.Addr.Compare) {
		problems = append(problems, CheckPodUID(p[a]), CheckPodAddress(a))
	}
	return errors.Join(problems...)
}

func (c *Capture) changePods(ctx context.Context, pods Pods, edit func(*policy.ProbeSet)) (PodChange, error) {
	if err := pods.Check(); err != nil {
		return PodChange{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.connect(ctx, nil); err != nil {
		return PodChange{}, err
	}
	changes, err := c.conn.ChangeLive(ctx, c.table, func(t *rules.Table) ([]rules.SetChange, error) {
		p, err := policy.NewProbeSet(t)
		if err != nil {
			return nil, err
		}
		edit(p)
		return p.Changes(), nil
	})
	if err != nil {
		return PodChange{}, c.tableError(err)
	}
	return podChange(changes), nil
}

func (c *Capture) tableError(err error) error { return fmt.Errorf("table inet %s: %w", c.table, err) }

// podChange counts what changes do: what is deleted and added again has moved.
func podChange(changes []rules.SetChange) (out PodChange) {
	for _, c := range changes {
		had := map[rules.Range]bool{}
		for _, e := range c.Delete {
			had[e.Key[0]] = true
		}
		for _, e := range c.Add {
			if had[e.Key[0]] {
				out.Moved++
			} else {
				out.Added++
			}
		}
		out.Deleted += len(c.Delete)
	}
	out.Deleted -= out.Moved
	return out
}
