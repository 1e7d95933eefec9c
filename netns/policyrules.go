// SPDX-License-Identifier: Apache-2.0

//go:build linux

package netns

import (
	"context"
	"fmt"
	"net/netip"
	"strings"

	"github.com/weir-mesh/weir/internal/escape"
	"github.com/weir-mesh/weir/internal/nl"
	"github.com/weir-mesh/weir/internal/reserved"
	"github.com/weir-mesh/weir/internal/rtnl"
	"github.com/weir-mesh/weir/rules"
	"github.com/weir-mesh/weir/sim"
	"golang.org/x/sys/unix"
)

// PolicyRule is a rule of the namespace's routing policy database.
type PolicyRule struct {
	sim.PolicyRule
	Own bool // it has weir's protocol number (FRA_PROTOCOL)
}

// PolicyRules are the policy rules of both families, those of one in the order in which
// the kernel asks them.
func (n *Namespace) PolicyRules(ctx context.Context) (all []PolicyRule, err error) {
	err = n.withRoute(ctx, func(s *nl.Socket) error {
		all, err = policyRules(ctx, s)
		return err
	})
	return all, err
}

func policyRules(ctx context.Context, s *nl.Socket) (all []PolicyRule, err error) {
	for _, f := range []rules.Family{rules.IPv4, rules.IPv6} {
		err := rtnl.Each(ctx, s, unix.RTM_GETRULE, byte(f), rtnl.RuleHeader, "policy rules", func(data []byte) error {
			l, err := liftPolicyRule(f, data)
			all = append(all, l)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

// liftPolicyRule lifts a policy rule (struct fib_rule_hdr of linux/fib_rules.h).
func liftPolicyRule(f rules.Family, data []byte) (PolicyRule, error) {
	a, err := nl.Decode(data[rtnl.RuleHeader:])
	if err != nil {
		return PolicyRule{}, err
	}
	const dstLen, srcLen, tos, action, flags, invert = 1, 2, 3, 7, 8, 2
	l := PolicyRule{PolicyRule: sim.PolicyRule{
		Family: f, Priority: a.Native32(unix.FRA_PRIORITY), Table: a.Native32(unix.FRA_TABLE),
		Mark: rules.Mark(a.Native32(unix.FRA_FWMARK)), Mask: rules.Mark(a.Native32(unix.FRA_FWMASK)),
		In: a.Text(unix.FRA_IIFNAME), Goto: a.Native32(unix.FRA_GOTO),
		To: livePrefix(a.Take(unix.FRA_DST), data[dstLen]), From: livePrefix(a.Take(unix.FRA_SRC), data[srcLen]),
	}}
	protocol := a.Take(unix.FRA_PROTOCOL)
	l.Own = len(protocol) == 1 && protocol[0] == reserved.RouteProtocol
	suppress := a.Take(unix.FRA_SUPPRESS_PREFIXLEN) // told always, -1 for none
	suppresses := suppress != nil && ^nl.Native32(suppress) != 0
	l.Not = nl.Native32(data[flags:rtnl.RuleHeader])&invert != 0
	does := byte(unix.FR_ACT_TO_TBL)
	if l.Goto != 0 {
		does = unix.FR_ACT_GOTO
	}
	if !a.AllTaken() || suppresses || data[tos] != 0 || data[action] != does {
		unsupported := fmt.Sprintf("the policy rule of priority %d says more than weir knows of", l.Priority)
		if l.Not { // it may take any packet
			return PolicyRule{PolicyRule: sim.PolicyRule{Family: f, Priority: l.Priority, Unsupported: unsupported}, Own: l.Own}, nil
		}
		l.Unsupported = unsupported
	}
	return l, nil
}

// String is the rule without its priority, about as ip-rule(8) lists it.
func (l PolicyRule) String() string {
	var b strings.Builder
	say := func(format string, args ...any) { fmt.Fprintf(&b, format, args...) }
	if l.Not {
		say("not ")
	}
	say("from %s", prefixText(l.From))
	if l.To.IsValid() {
		say(" to %s", prefixText(l.To))
	}
	if l.Mask != 0 {
		say(" fwmark %#x", uint32(l.Mark))
		if ^l.Mask != 0 {
			say("/%#x", uint32(l.Mask))
		}
	}
	if l.In != "" {
		say(" iif %s", escape.Text(l.In))
	}
	switch {
	case l.Goto != 0:
		say(" goto %d", l.Goto)
	case l.Table != 0:
		say(" lookup %d", l.Table)
	}
	if l.Unsupported != "" {
		say(", and more")
	}
	return b.String()
}

func prefixText(p netip.Prefix) string {
	switch {
	case !p.IsValid():
		return "all"
	case p.IsSingleIP():
		return p.Addr().String()
	}
	return p.String()
}
