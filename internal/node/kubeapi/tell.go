// SPDX-License-Identifier: Apache-2.0

//go:build linux

package kubeapi

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/weir-mesh/weir/capture"
	"github.com/weir-mesh/weir/internal/node"
	"github.com/weir-mesh/weir/internal/node/escapes"
	"github.com/weir-mesh/weir/internal/node/inventory"
	"github.com/weir-mesh/weir/internal/node/keep"
)

// Reasons of events.
const (
	reasonCaptured = "WeirCaptured" // it was not, and is now
	reasonHealed   = "WeirHealed"
	reasonFighting = "WeirFighting"
	reasonBlocked  = "WeirBlocked"
	reasonFailed   = "WeirNotCaptured"
	reasonEscaped  = "WeirEscaped" // connections passed its proxy by
)

// Found writes an event about a pod whose capture was not as it should be. Client is a node.Teller by it.
func (c *Client) Found(p inventory.Pod, s node.Status, f keep.Finding) {
	if !p.IsPod() {
		return
	}
	by := cmp.Or(strings.Join(f.Writers, "; "), "not known")
	tell := func(reason, format string, args ...any) {
		c.Event(p.Namespace, p.Name, p.UID, true, reason, fmt.Sprintf(format, args...))
	}
	switch {
	case f.Err == nil && f.Anew && f.Healed: // on purpose
	case f.Err != nil:
		tell(reasonFailed, "its traffic is not captured as it should be: %v", f.Err)
	case f.GaveUp:
		tell(reasonFighting, "another program (%s) puts its own rules back again and again: healed %d times, and next time by a sweep", by, f.Heals)
	case f.Healed && f.First:
		tell(reasonCaptured, "its traffic was not captured as it should be, and is now (%s): %s", f.Outcome, first(f.Differences))
	case f.Healed:
		tell(reasonHealed, "its rules were changed by %s, and are restored: %s", by, first(f.Differences))
	case len(f.Differences) == 0 && len(f.Conflicts) > 0:
		tell(reasonBlocked, "in the way of its captured traffic, written by %s: %s", cmp.Or(s.Writer, by), first(f.Conflicts))
	}
}

// first is the first of several texts, and how many more there are.
func first(all []string) string {
	switch len(all) {
	case 0:
		return ""
	case 1:
		return all[0]
	}
	return fmt.Sprintf("%s; and %d more", all[0], len(all)-1)
}

// Escaped writes an event about a pod whose proxy was passed by.
func (c *Client) Escaped(p inventory.Pod, _ node.Status, n escapes.Count) {
	if p.IsPod() {
		c.Event(p.Namespace, p.Name, p.UID, true, reasonEscaped, fmt.Sprintf("connections were opened past its proxy: %d packets out, %d in", n.Out, n.In))
	}
}

// Applied is a node.Teller's.
func (*Client) Applied(capture.Report, error) {}

// Overrun is a node.Teller's.
func (*Client) Overrun() {}
