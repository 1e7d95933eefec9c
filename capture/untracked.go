// SPDX-License-Identifier: Apache-2.0

//go:build linux

package capture

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/weir-mesh/weir/modes"
	"github.com/weir-mesh/weir/rules"
)

// OpenConnectionsError means that the first apply of a capture without connection
// tracking would reset connections that are open: each of their packets is taken to a
// proxy that does not know them. Options.ResetOpen allows it.
type OpenConnectionsError struct{ Count int }

func (e *OpenConnectionsError) Error() string {
	return fmt.Sprintf("%d open connections would be reset: without connection tracking each of their packets is captured, and the proxy does not know them (--reset-open, or WEIR_RESET_OPEN=true of istio-init, allows it; a pod is best captured as it starts)", e.Count)
}

// SysctlError means that the namespace lacks settings that the ruleset needs.
// Options.WriteSysctls has Apply write them.
type SysctlError struct {
	Missing []rules.Sysctl
	Err     error // why they could not be written; nil where that was not asked for
}

func (e *SysctlError) Error() string {
	words := make([]string, len(e.Missing))
	for i, s := range e.Missing {
		words[i] = strings.ReplaceAll(s.Name, "/", ".") + "=" + s.Value
	}
	text := fmt.Sprintf("the namespace needs %s: %s", strings.Join(words, ", "), e.Missing[0].Why)
	if e.Err != nil {
		return fmt.Sprintf("%s: %v", text, e.Err)
	}
	return text + " (--write-sysctls sets them)"
}

// Unwrap is why they could not be written.
func (e *SysctlError) Unwrap() error { return e.Err }

// prepareUntracked wants the settings of a ruleset without connection tracking, a mark of
// the proxy's that no policy rule of the present one routes, and at its first apply no open
// connection. It counts those that it resets.
func (c *Capture) prepareUntracked(ctx context.Context, want rules.State, r *Report) error {
	if err := c.settings(want.Sysctls, r); err != nil {
		return err
	}
	if !want.Untracked {
		return nil
	}
	live, err := c.conn.Read(ctx, c.table)
	if err != nil {
		return err
	}
	mark, mask := want.ProxyMark, want.ProxyMask
	for _, p := range live.State.PolicyRules {
		if !slices.Contains(want.PolicyRules, p) && p.Goto == 0 && (mark&p.Mask == p.Mark || p.Mark&mask == mark) && p.In == "" {
			return &modes.ConfigError{Key: "proxy.mark", Word: modes.MarkText(mark, mask),
				Problem: fmt.Sprintf("is routed while the ruleset that is there is replaced, by %s (want another)", p)}
		}
	}
	if untracks(live.State.Table) {
		return nil
	}
	open, err := c.conn.OpenConnections(ctx, mark, mask)
	if err != nil {
		return err
	}
	if open > 0 && !c.options.ResetOpen {
		return &OpenConnectionsError{open}
	}
	r.ResetOpen = open
	return nil
}

// untracks reports whether a table captures without connection tracking already.
func untracks(t *rules.Table) bool {
	return t != nil && slices.ContainsFunc(t.Chains, func(c *rules.Chain) bool {
		return c.Base != nil && slices.ContainsFunc(c.Rules, func(r rules.Rule) bool {
			return slices.Contains(r.Nodes, rules.Node(rules.NoTrack{}))
		})
	})
}

// settings wants the sysctls, or writes them. Those that cannot be seen, without /proc or
// without IPv6, are told of.
func (c *Capture) settings(need []rules.Sysctl, r *Report) error {
	if len(need) == 0 {
		return nil
	}
	unmet, unread, err := c.ns.Unmet(need)
	if err != nil {
		return err
	}
	r.Unread = append(r.Unread, unread...)
	if len(unmet) == 0 {
		return nil
	}
	missing := make([]rules.Sysctl, len(unmet))
	for i, s := range unmet {
		missing[i] = s.Sysctl
	}
	if !c.options.WriteSysctls {
		return &SysctlError{Missing: missing}
	}
	for _, s := range missing {
		if err := c.ns.SetSysctl(s.Name, s.Value); err != nil {
			return &SysctlError{missing, err}
		}
	}
	return nil
}
