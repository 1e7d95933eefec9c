// SPDX-License-Identifier: Apache-2.0

// Package reserved knows the names and numbers that weir keeps for itself in a network
// namespace: the tables that it works with beside its own, the set with its notes, and
// what its sets, routes and policy rules are known by.
package reserved

import "strings"

const (
	// Tag is the set of a table in which weir notes what it wrote.
	Tag = "tag"
	// Lock is the table that an apply holds while it works, whatever its own table: all
	// share the routing of the namespace.
	Lock = "weir" + lockSuffix
	// NextSuffix ends the name of the second table of an apply, while it works.
	NextSuffix = "-next"
	// TracePrefix begins the names of the tables that traces work with; the netlink
	// port of the tracing socket follows, by which it can be told whether that lives.
	TracePrefix = "weir-trace-"

	// Escapes is the table in which the node's agent counts what passes a pod's proxy by.
	Escapes = "weir-escapes"

	// LiveComment is the comment by which a set is known to be live.
	LiveComment = "changes at run time"

	lockSuffix = "-lock"
)

// RouteProtocol is the number that weir's policy rules and routes carry (FRA_PROTOCOL
// and rtm_protocol), and addresses where the kernel keeps it (IFA_PROTO); to addresses
// not every ip(8) can give it.
const RouteProtocol = 119

// BranchProtocol is the number that the policy rules of pods with a branch interface in AWS carry, which the node's agent
// makes and no table's tag knows.
const BranchProtocol = 120

// Next is the second table of an apply to table, while it works.
func Next(table string) string { return table + NextSuffix }

// TableUse says what weir uses a table's name for, "" where the name is free.
func TableUse(name string) string {
	switch {
	case strings.HasSuffix(name, NextSuffix) || strings.HasSuffix(name, lockSuffix):
		return "names that end in " + NextSuffix + " and " + lockSuffix + " while it applies"
	case strings.HasPrefix(name, TracePrefix):
		return "names that begin with " + TracePrefix + " while it traces"
	case name == Escapes:
		return "it for the node agent's counters"
	}
	return ""
}
