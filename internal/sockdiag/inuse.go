// SPDX-License-Identifier: Apache-2.0

//go:build linux

package sockdiag

import (
	"errors"
	"io/fs"
	"strings"

	"github.com/weir-mesh/weir/internal/proc"
)

// NoTCPHere reports whether the network namespace of the calling thread certainly has no
// TCP socket but those that have closed. To list none takes sock_diag(7) a walk through
// the hash table of the whole machine, which is an eighth of a first apply and more.
// Where there is no /proc it is not certain.
func NoTCPHere() bool {
	return noneInUse("/proc/thread-self/net/sockstat", "TCP: inuse ", false) &&
		noneInUse("/proc/thread-self/net/sockstat6", "TCP6: inuse ", true)
}

// noneInUse reports whether a line of a file counts no sockets. Without IPv6 there is no
// file of it.
func noneInUse(path, line string, optional bool) bool {
	text, err := proc.Read(path)
	if err != nil {
		return optional && errors.Is(err, fs.ErrNotExist)
	}
	_, rest, found := strings.Cut(string(text), line)
	number := strings.Fields(rest)
	return found && len(number) > 0 && number[0] == "0"
}
