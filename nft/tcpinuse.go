package nft

import (
	"errors"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// namespaceID tells network namespaces apart; its zero value is none's.
type namespaceID struct{ device, inode uint64 }

func threadNamespace() namespaceID {
	var st unix.Stat_t
	if unix.Stat("/proc/thread-self/ns/net", &st) != nil {
		return namespaceID{}
	}
	return namespaceID{st.Dev, st.Ino}
}

// noTCP reports whether the namespace certainly has no TCP socket but those that have
// closed. To list none takes sock_diag(7) a walk through the hash table of the whole
// machine, which is an eighth of a first apply. Where there is no /proc, or this
// thread is elsewhere, it is not certain.
func (c *Conn) noTCP() bool {
	return c.own != namespaceID{} && c.own == threadNamespace() &&
		noneInUse("/proc/thread-self/net/sockstat", "TCP: inuse ", false) &&
		noneInUse("/proc/thread-self/net/sockstat6", "TCP6: inuse ", true)
}

// noneInUse reads how many sockets a line of a file counts. Without IPv6 there is no
// file of it.
func noneInUse(path, line string, spare bool) bool {
	text, err := os.ReadFile(path)
	if err != nil {
		return spare && errors.Is(err, fs.ErrNotExist)
	}
	_, rest, found := strings.Cut(string(text), line)
	number := strings.Fields(rest)
	return found && len(number) > 0 && number[0] == "0"
}
