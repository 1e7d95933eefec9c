// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nft

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/weir-mesh/weir/internal/escape"
	"github.com/weir-mesh/weir/internal/reserved"
	"golang.org/x/sys/unix"
)

// Holder is who a table belongs to: a netlink socket, with which the table goes,
// and its process where /proc tells.
type Holder struct {
	Port uint32 // of the socket, 0 where it was not read
	PID  int    // 0 where it was not found
	Name string // of the process
	None bool   // the table belongs to no socket, and stays when its maker ends
}

func (h Holder) String() string {
	switch {
	case h.None:
		return fmt.Sprintf("no socket, so it is not a lock (delete it with: nft delete table inet %s)", reserved.Lock)
	case h.PID != 0:
		return fmt.Sprintf("process %d (%s)", h.PID, escape.Text(h.Name))
	case h.Port != 0:
		return fmt.Sprintf("the netlink socket with port id %d, whose process is not seen from here", h.Port)
	}
	return "the netlink socket of another process, whose port id was not read"
}

// remedy is how its table is to be had.
func (h Holder) remedy() string {
	if h.PID != 0 {
		return fmt.Sprintf("end process %d: the table goes with it", h.PID)
	}
	return "end the process that has the socket open (ss -A netlink -p, in this network namespace and the host's PID namespace): the table goes with it"
}

// holderTime bounds the search for a process: a node may have tens of thousands.
const holderTime = 250 * time.Millisecond

// holder finds the process that has the socket with that port open.
func (c *Conn) holder(ctx context.Context, port uint32) Holder {
	h := Holder{Port: port}
	if port == 0 {
		return h
	}
	inode := ""
	_ = c.nf.Inside(func() { inode = socketInode(port) })
	if inode == "" {
		return h
	}
	ctx, cancel := context.WithTimeout(ctx, holderTime)
	defer cancel()
	proc, err := os.Open("/proc")
	if err != nil {
		return h
	}
	defer proc.Close()
	names, _ := proc.Readdirnames(-1)
	// The first socket of a process has its number for a port.
	for _, name := range append([]string{strconv.FormatUint(uint64(port), 10)}, names...) {
		if ctx.Err() != nil {
			return h
		}
		pid, err := strconv.Atoi(name)
		if err != nil || !hasOpen(ctx, pid, "socket:["+inode+"]") {
			continue
		}
		comm, _ := os.ReadFile(filepath.Join("/proc", name, "comm"))
		h.PID, h.Name = pid, strings.TrimSuffix(string(comm), "\n")
		return h
	}
	return h
}

// socketInode is the inode of the socket of nfnetlink with that port in the
// thread's network namespace, as /proc/net/netlink has it.
func socketInode(port uint32) string {
	f, err := os.Open("/proc/thread-self/net/netlink")
	if err != nil {
		return ""
	}
	defer f.Close()
	const protocol, portID, inode = 1, 2, 9 // columns
	for lines := bufio.NewScanner(f); lines.Scan(); {
		words := strings.Fields(lines.Text())
		if len(words) > inode && words[protocol] == strconv.Itoa(unix.NETLINK_NETFILTER) && words[portID] == strconv.FormatUint(uint64(port), 10) {
			return words[inode]
		}
	}
	return ""
}

// hasOpen reports whether a process has a file open that reads like this.
func hasOpen(ctx context.Context, pid int, file string) bool {
	folder := filepath.Join("/proc", strconv.Itoa(pid), "fd")
	dir, err := os.Open(folder)
	if err != nil {
		return false
	}
	defer dir.Close()
	target := make([]byte, len(file)+1)
	for ctx.Err() == nil {
		names, err := dir.Readdirnames(256)
		for _, name := range names {
			n, err := unix.Readlink(filepath.Join(folder, name), target)
			if err == nil && bytes.Equal(target[:n], []byte(file)) {
				return true
			}
		}
		if err != nil {
			return false
		}
	}
	return false
}
