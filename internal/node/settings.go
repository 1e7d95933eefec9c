// SPDX-License-Identifier: Apache-2.0

//go:build linux

package node

import (
	"context"
	"time"

	"github.com/weir-mesh/weir/netns"
	"github.com/weir-mesh/weir/rules"
)

// settingsTime is how often the settings that rules need are read: the kernel sends no notification of their changes.
const settingsTime = 5 * time.Second

// keepReadingSettings looks at each pod whose settings were changed.
func (a *Agent) keepReadingSettings(ctx context.Context) {
	tick := time.NewTicker(settingsTime)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for key, p := range a.known() {
			if need := p.needed(); len(need) > 0 && ctx.Err() == nil && a.otherwise(uint64(key), p, need) {
				a.keeper.Load().Look(key)
			}
		}
	}
}

// otherwise reports whether a pod that was as it should be has other settings now.
func (a *Agent) otherwise(inode uint64, p *pod, need []rules.Sysctl) bool {
	if state := p.state().State; state != StateCaptured && state != StateBlocked {
		return false // the keeper looks again by itself
	}
	ns, err := p.open(inode)
	if err != nil {
		return false
	}
	defer ns.Close()
	lacking, err := settings(ns, need)
	return err == nil && len(lacking) > 0
}

// settings are those that rules need and that are otherwise.
func settings(ns *netns.Namespace, need []rules.Sysctl) (lacking []string, err error) {
	if len(need) == 0 {
		return nil, nil
	}
	unmet, _, err := ns.Unmet(need)
	for _, s := range unmet {
		lacking = append(lacking, rules.Difference{Where: "setting " + s.Name, Want: s.Value, Have: s.Have}.String())
	}
	return lacking, err
}

func (p *pod) need(settings []rules.Sysctl) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.settings = settings
}

func (p *pod) needed() []rules.Sysctl {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.settings
}
