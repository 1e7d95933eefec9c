// SPDX-License-Identifier: Apache-2.0

//go:build linux

package ambient

import (
	"context"
	"errors"
	"fmt"

	"github.com/weir-mesh/weir/capture"
)

// exempt puts a pod's addresses into the probe set, and makes the host's table where it is not there.
func (s *Side) exempt(ctx context.Context, p Pod) error {
	set := p.probeSet()
	return s.onHost(func(c *capture.Capture) error {
		_, err := c.AddPods(ctx, set)
		if errors.Is(err, capture.ErrNoProbeSet) {
			if _, err = c.Apply(ctx); err == nil {
				_, err = c.AddPods(ctx, set)
			}
		}
		if err == nil {
			_, _, err = s.branchRules()
		}
		return err
	})
}

// Mend makes the host's table and its probe set what they should be, and tells what differed.
func (s *Side) Mend(ctx context.Context) (differences []string, err error) {
	s.mu.Lock()
	want := addressesOf(s.members)
	s.mu.Unlock()
	err = s.onHost(func(c *capture.Capture) error {
		v, err := c.Verify(ctx)
		if err != nil {
			return err
		}
		for _, d := range v.Differences {
			differences = append(differences, d.String())
		}
		if !v.Clean() {
			if _, err := c.Apply(ctx); err != nil {
				return err
			}
		}
		change, err := c.SetPods(ctx, want)
		if n := change.Added + change.Moved + change.Deleted; n > 0 {
			differences = append(differences, fmt.Sprintf("probe set: %d added, %d moved, %d deleted", change.Added, change.Moved, change.Deleted))
		}
		if err != nil {
			return err
		}
		added, deleted, err := s.branchRules()
		if added+deleted > 0 {
			differences = append(differences, fmt.Sprintf("policy rules of pods with a branch interface: %d added, %d deleted", added, deleted))
		}
		return err
	})
	if err != nil {
		err = fmt.Errorf("the node's own table: %w", err)
	}
	return differences, err
}

func (s *Side) onHost(do func(*capture.Capture) error) error {
	s.hostMu.Lock()
	defer s.hostMu.Unlock()
	c, err := capture.New(s.Host, s.Settings.host(), capture.Options{HostNetwork: true, Version: s.Version})
	if err != nil {
		return err
	}
	defer c.Close()
	return do(c)
}
