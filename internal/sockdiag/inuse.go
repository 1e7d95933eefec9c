//go:build linux

package sockdiag

import (
	"errors"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Namespace tells network namespaces apart; its zero value is none's.
type Namespace struct{ device, inode uint64 }

// OfThread is the network namespace of the calling thread, none without /proc.
func OfThread() Namespace {
	var st unix.Stat_t
	if unix.Stat("/proc/thread-self/ns/net", &st) != nil {
		return Namespace{}
	}
	return Namespace{uint64(st.Dev), st.Ino}
}

// HasNoTCP reports whether the namespace certainly has no TCP socket but those that have
// closed. To list none takes sock_diag(7) a walk through the hash table of the whole
// machine, which is an eighth of a first apply. Where there is no /proc, or this
// thread is elsewhere, it is not certain.
func (n Namespace) HasNoTCP() bool {
	return n != Namespace{} && n == OfThread() &&
		noneInUse("/proc/thread-self/net/sockstat", "TCP: inuse ", false) &&
		noneInUse("/proc/thread-self/net/sockstat6", "TCP6: inuse ", true)
}

// noneInUse reports whether a line of a file counts no sockets. Without IPv6 there is no
// file of it.
func noneInUse(path, line string, optional bool) bool {
	text, err := os.ReadFile(path)
	if err != nil {
		return optional && errors.Is(err, fs.ErrNotExist)
	}
	_, rest, found := strings.Cut(string(text), line)
	number := strings.Fields(rest)
	return found && len(number) > 0 && number[0] == "0"
}
