//go:build linux

package main

import "github.com/weir-mesh/weir/rules"

// foreignChainOrder says when a base chain of another program runs, as against the
// chains of weir's table that see packets at its hook.
func foreignChainOrder(ours *rules.Table, b rules.Base) string {
	at := "no chain of ours is on this hook"
	if ours == nil {
		return at
	}
	for _, c := range ours.PacketOrder() {
		switch {
		case c.Base == nil || c.Base.Hook != b.Hook:
		case b.Priority < c.Base.Priority && b.Type == rules.NATType && c.Base.Type == rules.NATType:
			return "runs before ours and may decide first"
		case b.Priority < c.Base.Priority:
			return "runs before ours and may drop"
		case b.Priority == c.Base.Priority:
			return "has the priority of ours: the chain that was made last runs first"
		default:
			at = "runs after ours"
		}
	}
	return at
}
