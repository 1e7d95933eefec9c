// SPDX-License-Identifier: Apache-2.0

// Package keep decides when network namespaces are looked at, and when they are healed: soon after a change
// that is not known to be harmless, not too often, and not for ever where another program puts its own back
// again and again. It knows no kernel: its callers look and heal.
package keep

import (
	"context"
	"time"
)

// Key is a network namespace, by its number.
type Key uint64

// Cause is a change that was heard of.
type Cause struct {
	Generation uint32 // of the ruleset, made by a commit; 0: it was none
	Sender     uint32 // the socket that made it, by a number that another may have later; 0: not known
	Writer     string // the program that did it, "" where that is not known
	Objects    []string
	Foreign    bool // tables of others were changed
}

// Order is what is to be done in a namespace.
type Order struct {
	Heal    bool     // what is not as it should be is to be healed
	Foreign bool     // what others have there is to be looked at too
	Writers []string // of the changes that were heard
}

// Result is what was found and done.
type Result struct {
	Seen        uint32   // the ruleset's generation at which the differences were read; 0: not known
	Generation  uint32   // of the ruleset at which the namespace was last seen as it should be; 0: it was not
	Differences []string // in what it was not as it should be
	Conflicts   []string // what others have there that captured traffic does not get past
	Senders     []uint32 // the sockets by which the look changed something itself
	Healed      bool
	Met         bool   // it was never seen as it should be before
	Anew        bool   // what it should be is something else than at the last look: the differences are no drift
	Outcome     string // of the heal, in a word
	Err         error
	Gone        bool // there is no such namespace any more
}

// Finding is what is told of a look that found something.
type Finding struct {
	Key Key
	Result
	Writers []string
	Objects []string
	First   bool          // the namespace was looked at for the first time, or it is Met
	Heard   time.Time     // when the first of the changes was heard; zero: none was
	Noticed time.Duration // from then until the difference was found
	Healing time.Duration // how long it took to look and heal
	Heals   int           // in a row
	GaveUp  bool          // another program puts its own back again and again: the next heal waits for a sweep
}

// Limits are the times of a Keeper.
type Limits struct {
	Debounce time.Duration // from a change to the look
	Busy     time.Duration // the same where changes do not end
	Quiet    time.Duration // how long a heal holds that does not count as one of a fight
	Free     int           // heals in a row without a pause
	Pause    time.Duration // before the first heal after those; each doubles it
	Most     int           // heals in a row
	Retry    time.Duration // after an error, at most
	AtOnce   int           // namespaces that are worked in
}

// DefaultLimits are those of the node agent.
func DefaultLimits() Limits {
	return Limits{Debounce: 50 * time.Millisecond, Busy: 2 * time.Second, Quiet: 10 * time.Second, Free: 3,
		Pause: 100 * time.Millisecond, Most: 10, Retry: time.Minute, AtOnce: 4}
}

// Work looks at a namespace, and heals it where that is ordered.
type Work func(context.Context, Key, Order) Result
