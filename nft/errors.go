// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nft

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"

	"github.com/weir-mesh/weir/internal/escape"
	"github.com/weir-mesh/weir/internal/nl"
	"github.com/weir-mesh/weir/rules"
)

// ErrChanged means that other programs kept changing the namespace's rules, or what
// else of it is read, while this program worked, and that it gave up with nothing
// of its own half done. Errors that match it are [*ChangedError].
var ErrChanged = errors.New("the ruleset kept changing")

// ChangedError tells how long a verb bore with others, and who committed last.
type ChangedError struct {
	After  time.Duration
	Writer string // a name and a PID of the host, "" where it was not heard
	Err    error  // what was met last
}

func (e *ChangedError) Error() string {
	text := fmt.Sprintf("%v; gave up after %s", ErrChanged, e.After.Round(time.Second/10))
	if e.Writer != "" {
		text += fmt.Sprintf(" (last writer: %s)", e.Writer)
	}
	if e.Err != nil && e.Err != errGeneration {
		text += fmt.Sprintf(": %v", e.Err)
	}
	return text
}

// Is reports that it is ErrChanged.
func (e *ChangedError) Is(target error) bool { return target == ErrChanged }

// Unwrap is what was met last.
func (e *ChangedError) Unwrap() error { return e.Err }

// ErrNotPermitted means that CAP_NET_ADMIN is missing in the user namespace
// that owns the network namespace; reading nftables needs it too.
var ErrNotPermitted = nl.ErrNotPermitted

// ErrEmptyState means that a state to apply holds nothing at all. It is what a
// configuration with a mistake makes, and would remove what is there.
var ErrEmptyState = errors.New("the state holds nothing to apply (to remove what is there, call Remove)")

// RejectedError is the kernel's refusal of one object.
type RejectedError struct {
	Where string // the object in words: chain output rule 3 "the reason"
	Err   error  // the kernel's errno
	Hint  string // what may be missing, "" if that is not known
}

func (e *RejectedError) Error() string {
	if e.Hint == "" {
		return fmt.Sprintf("%s: %v", escape.Text(e.Where), e.Err)
	}
	return fmt.Sprintf("%s: %v (%s)", escape.Text(e.Where), e.Err, e.Hint)
}

// Unwrap is the kernel's errno.
func (e *RejectedError) Unwrap() error { return e.Err }

// DriftError says in what the live state differs from the wanted one.
type DriftError struct {
	Table       string
	Differences []rules.Difference
}

func (e *DriftError) Error() string {
	var b strings.Builder
	for i, d := range e.Differences {
		if i > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "inet %s: %s", e.Table, d)
	}
	return b.String()
}

// NotOursError means that a table stands under a name of weir's that no apply wrote,
// or that another socket owns, so that only that one can change it.
type NotOursError struct {
	Table  string
	Lacks  string  // a tag
	Holder *Holder // nil: it has no owner
}

func (e *NotOursError) Error() string {
	if e.Holder != nil {
		return fmt.Sprintf("table inet %s belongs to %s, and no other program can change or delete it; %s", e.Table, e.Holder, e.Holder.remedy())
	}
	return fmt.Sprintf("table inet %s is there, and weir did not write it: it has no %s (to give it up: nft delete table inet %[1]s)", e.Table, e.Lacks)
}

// features names the kernel's option for each kind of expression, and for what
// is not an expression by the kind of object.
var features = map[string]string{
	"table":     "CONFIG_NF_TABLES_INET",
	"nat":       "CONFIG_NFT_NAT",
	"redir":     "CONFIG_NFT_REDIR",
	"tproxy":    "CONFIG_NFT_TPROXY",
	"socket":    "CONFIG_NFT_SOCKET",
	"fib":       "CONFIG_NFT_FIB_INET",
	"ct":        "CONFIG_NFT_CT",
	"notrack":   "CONFIG_NFT_CT",
	"masq":      "CONFIG_NFT_MASQ",
	"meta":      "CONFIG_NF_TABLES",
	"lookup":    "CONFIG_NF_TABLES",
	"set":       "CONFIG_NF_TABLES",
	"ingress":   "CONFIG_NETFILTER_INGRESS",
	"subsystem": "CONFIG_NF_TABLES",
}

// hint explains an errno that by itself misleads. What is an expression's or an
// object's kind.
func hint(errno syscall.Errno, what string) string {
	option, known := features[what]
	switch {
	case errno == syscall.ENOENT && known, errno == syscall.EOPNOTSUPP && what == "table":
		return "this kernel has no " + what + ": " + option
	case errno == syscall.EOPNOTSUPP:
		return "wrong hook, chain type or family for " + what
	case errno == syscall.ENFILE && what == "set":
		return "the set is full"
	}
	return ""
}
