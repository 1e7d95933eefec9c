// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package podlist is the text of a list of pods: lines of a UID and addresses, with
// comments after #. It knows nothing of where the pods are.
package podlist

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/weir-mesh/weir/capture"
	"github.com/weir-mesh/weir/config"
	"github.com/weir-mesh/weir/internal/problems"
	"github.com/weir-mesh/weir/internal/term"
)

// MaxSize is room for every pod of a node many times over, in bytes: 100,000 of them with
// two addresses take 8 MB.
const MaxSize = 32 << 20

// ParseAddress reads an address that a pod may have.
func ParseAddress(word string) (netip.Addr, error) {
	a, err := netip.ParseAddr(word)
	if err != nil || a.Zone() != "" {
		return a, fmt.Errorf("%q is not an address (want 192.0.2.1 or 2001:db8::1)", term.Shorten(word))
	}
	return a, capture.CheckPodAddress(a)
}

// Parse reads a list. The name is its file's, for places. The error joins every problem,
// each a config.Problem with its line.
func Parse(name, text string) (capture.Pods, error) {
	p := capture.Pods{}
	var found []error
	at := config.Place{File: name}
	for line := range strings.Lines(text) {
		at.Line++
		problem := func(err error) { found = append(found, &config.Problem{Place: at, Err: err}) }
		line, _, _ = strings.Cut(line, "#")
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		uid := words[0]
		if err := capture.CheckPodUID(uid); err != nil {
			problem(err)
		}
		for _, word := range words[1:] {
			a, err := ParseAddress(word)
			if err != nil {
				problem(err)
				continue
			}
			if other, twice := p[a]; twice && other != uid {
				problem(fmt.Errorf("%s is the address of pod %s too", a, other))
			}
			p[a] = uid
		}
	}
	return p, problems.Join(found...)
}

// Pod is a line of a list.
type Pod struct {
	UID       string       `json:"uid"`       // "" for addresses of which it is not known
	Addresses []netip.Addr `json:"addresses"` // in order
}

// String is the line, as Parse reads it.
func (p Pod) String() string {
	words := []string{cmp.Or(p.UID, "-")}
	for _, a := range p.Addresses {
		words = append(words, a.String())
	}
	return strings.Join(words, " ")
}

// Of lists pods, in the order of their UIDs; it is never nil.
func Of(p capture.Pods) []Pod {
	addresses := map[string][]netip.Addr{}
	for a, uid := range p {
		addresses[uid] = append(addresses[uid], a)
	}
	list := []Pod{}
	for _, uid := range slices.Sorted(maps.Keys(addresses)) {
		slices.SortFunc(addresses[uid], netip.Addr.Compare)
		list = append(list, Pod{uid, addresses[uid]})
	}
	return list
}
