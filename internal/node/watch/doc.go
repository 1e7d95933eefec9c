// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package watch hears what changes in every network namespace of a node, by two netlink sockets in one of
// them: a socket with NETLINK_LISTEN_ALL_NSID is told of each namespace that has an id there (man 7 netlink).
// It knows neither what should be in a namespace nor whose it is.
package watch

// ID is the number of a network namespace in the one that is listened in.
type ID int32

// Own is the namespace that is listened in.
const Own ID = -1

// Object is what was changed, in netfilter's and rtnetlink's words.
type Object string

// Objects.
const (
	Table      Object = "table"
	Chain      Object = "chain"
	Rule       Object = "rule"
	Set        Object = "set"
	Element    Object = "element"
	PolicyRule Object = "policy-rule"
	Route      Object = "route"
	Address    Object = "address"
	Link       Object = "link"
)

// Change is what was told of one namespace, up to the end of a commit.
type Change struct {
	ID      ID
	Objects []Object        // each once
	Tables  map[string]bool // of nftables, as FAMILY-NUMBER NAME

	Generation uint32 // of the ruleset, which the commit made; 0: it was not a commit
	Writer     string // the program that committed, as the kernel names it; "" where it does not
	PID        uint32 // of the writer of a commit, in the machine's own numbers
	Port       uint32 // of the socket that made the change, which most programs have from their PID; 0: the kernel names none
}

// Listener is told what is heard, from two goroutines.
type Listener interface {
	Changed(Change)
	Appeared(ID)    // a namespace was given an id
	Disappeared(ID) // it has gone
	Overrun()       // something was not heard: everything must be looked at
}
