// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nft

import "github.com/weir-mesh/weir/rules"

// scope is what is read of a table beside its chains, its tag and the declarations of
// its sets. What others keep there can be hundreds of thousands of elements: they are
// read where something asks for them.
type scope struct {
	// elements decides whether those of the named sets are read, from the set of the
	// table's tag, which is nil where it has none. Nil: they are not.
	elements func(tag *rules.Set) bool
	rules    bool         // with stateful objects and flowtables
	written  *rules.Table // what a commit of this program made of it, since which no program changed it; or nil
}

// everything is the whole of a table.
func everything() scope {
	return scope{elements: func(*rules.Set) bool { return true }, rules: true}
}

// everythingOf is the whole of a table that a commit of this program made, in normal form.
func everythingOf(written *rules.Table) scope {
	all := everything()
	all.written = written
	return all
}

// withoutElements is a table but for what its named sets hold.
func withoutElements() scope { return scope{rules: true} }

// outline is what a remove needs to know of a table: it goes, whatever is in it.
func outline() scope { return scope{} }

// covers reports whether who read that much knows the other.
func (s scope) covers(other scope) bool {
	return (s.rules || !other.rules) && (s.elements != nil || other.elements == nil)
}
