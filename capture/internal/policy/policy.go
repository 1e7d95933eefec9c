// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package policy decides what an apply may do in a network namespace, from facts alone:
// the engine and the fake that stands for it in tests ask it alike. It knows no kernel.
package policy

import (
	"errors"
	"fmt"

	"github.com/weir-mesh/weir/modes"
	"github.com/weir-mesh/weir/nft"
	"github.com/weir-mesh/weir/rules"
)

// The errors of package capture by these names.
var (
	ErrHostNetwork  = errors.New("this is the machine's own network namespace")
	ErrLoopbackDown = errors.New("lo is down: " + LoopbackDown + " (set it up first)")
	ErrNoProbeSet   = errors.New("there is no probe set (weir ambient host apply makes it)")
)

// LoopbackDown is what comes of lo being down.
const LoopbackDown = "what is redirected would not reach the proxy"

// RefuseHost is ErrHostNetwork where the namespace is the machine's own, with what
// would happen to everything on it.
func RefuseHost(isHost func() (bool, error), effect string) error {
	host, err := isHost()
	if err == nil && host {
		err = fmt.Errorf("%w: %s", ErrHostNetwork, effect)
	}
	return err
}

// AllowHost keeps an example from capturing a whole machine. It reports whether an
// apply that is allowed to does so. Mode ambient-host is for that namespace, and mode
// egress captures nothing.
func AllowHost(mode string, allowed bool, isHost func() (bool, error)) (host bool, err error) {
	switch {
	case mode == modes.ModeAmbientHost, mode == modes.ModeEgress:
		return false, nil
	case allowed:
		host, err := isHost()
		return host && err == nil, nil
	}
	return false, RefuseHost(isHost, "applying here would capture the traffic of everything on it")
}

// Loopback reports whether lo is down where that matters, and may come up later: a
// sidecar's init container may run before it is set up. A pod of ambient mode
// has run for long, so there it is an error. The mode is "" of a ruleset by hand.
func Loopback(mode string, state rules.State, isUp func() (bool, error)) (down bool, err error) {
	switch {
	case mode == modes.ModeAmbientHost, mode == modes.ModeEgress, mode == "" && !delivers(state):
		return false, nil
	}
	up, err := isUp()
	if err == nil && !up && mode == modes.ModeAmbientPod {
		return false, ErrLoopbackDown
	}
	return err == nil && !up, err
}

// delivers reports whether a ruleset brings packets to sockets by lo: by redirect, or
// by a route.
func delivers(state rules.State) bool {
	if len(state.Routes) > 0 {
		return true
	}
	for _, chain := range state.Table.Chains {
		for _, rule := range chain.Rules {
			for _, node := range rule.Nodes {
				if _, ok := node.(rules.Redirect); ok {
					return true
				}
			}
		}
	}
	return false
}

// Downgrade reports whether an apply by a program of that version changed what a
// newer one wrote; false where that cannot be told.
func Downgrade(version string, r nft.Result) bool {
	idle := r.Outcome == nft.Unchanged || r.Outcome == nft.Absent
	return !idle && r.Previous != nil && olderThan(version, r.Previous.Version)
}
