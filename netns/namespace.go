// SPDX-License-Identifier: Apache-2.0

//go:build linux

package netns

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/weir-mesh/weir/internal/escape"
	"github.com/weir-mesh/weir/internal/nl"
	"github.com/weir-mesh/weir/nft"
	"golang.org/x/sys/unix"
)

// Folder is where ip-netns(8) keeps namespaces by name.
const Folder = "/run/netns"

// A Namespace is a network namespace, and the root of the file system whose /etc
// belongs to it.
type Namespace struct {
	file *os.File // nil: the program's own
	name string   // in Folder, "" for none
	root *root    // nil: the program's own

	mu    sync.Mutex
	route *nl.Socket // rtnetlink in the namespace, nil until facts are asked for
}

// Current is the network namespace of the calling thread. It opens nothing: an
// empty root has no /proc to open it from.
func Current() *Namespace { return &Namespace{} }

// Open opens a namespace by its path or, without a slash, by its name as
// ip-netns(8) has it. Errors are ErrNotExist, ErrNotNetns, or that it may not be
// opened.
func Open(nameOrPath string) (*Namespace, error) {
	path := Path(nameOrPath)
	file, err := openNetns(path)
	if err != nil {
		return nil, err
	}
	n := &Namespace{file: file}
	if path != nameOrPath {
		n.name = nameOrPath
	}
	return n, nil
}

// Path is the file of a namespace that is named as for [Open].
func Path(nameOrPath string) string {
	if strings.Contains(nameOrPath, "/") {
		return nameOrPath
	}
	return filepath.Join(Folder, nameOrPath)
}

// openNetns looks at a file before it opens it: to open a device has effects of its
// own, and a FIFO waits for its writer.
func openNetns(path string) (*os.File, error) {
	var at unix.Statfs_t
	if err := unix.Statfs(path, &at); err != nil {
		return nil, notThere("open", path, err)
	}
	if at.Type != unix.NSFS_MAGIC {
		return nil, fmt.Errorf("%s %w", escape.Text(path), ErrNotNetns)
	}
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, notThere("open", path, err)
	}
	return checkNetns(fd, path)
}

// checkNetns makes a file of a descriptor that is a network namespace.
func checkNetns(fd int, path string) (*os.File, error) {
	if kind, err := unix.IoctlRetInt(fd, unix.NS_GET_NSTYPE); err != nil || kind != unix.CLONE_NEWNET {
		unix.Close(fd)
		return nil, fmt.Errorf("%s %w", escape.Text(path), ErrNotNetns)
	}
	return os.NewFile(uintptr(fd), path), nil
}

// notThere is ErrNotExist where the path leads nowhere, or the process is gone.
func notThere(op, path string, err error) error {
	reason := &fs.PathError{Op: op, Path: escape.Text(path), Err: err}
	switch err {
	case unix.ENOENT, unix.ENOTDIR, unix.ESRCH, unix.ELOOP, unix.ENAMETOOLONG, unix.EINVAL, unix.ENXIO, unix.ENODEV:
		return fmt.Errorf("%w: %w", ErrNotExist, reason)
	}
	return reason
}

// Close lets go of the namespace.
func (n *Namespace) Close() {
	if n.route != nil {
		_ = nl.Close(n.route)
	}
	if n.file != nil {
		n.file.Close()
	}
	if n.root != nil {
		n.root.dir.Close()
		n.root.process.Close()
	}
}

// FD is the namespace's descriptor, 0 for the program's own, as [nft.Open] takes
// it. It holds until Close.
func (n *Namespace) FD() int {
	if n.file == nil {
		return 0
	}
	return int(n.file.Fd())
}

// Nft opens the namespace's netlink.
func (n *Namespace) Nft() (*nft.Conn, error) { return nft.Open(n.FD()) }

// Inside runs do on a thread in the namespace, which goes back to its own afterwards:
// do must not change what else belongs to a thread. The error is that of do, or
// ErrNotEntered.
func (n *Namespace) Inside(do func() error) error {
	if n.file == nil {
		return do()
	}
	var err error
	if entered := nl.Inside(n.FD(), func() { err = do() }); entered != nil {
		return entered
	}
	return err
}

// Inode is the number of the namespace's file, which no other namespace has while
// this one is there. Without /proc the program's own has none.
func (n *Namespace) Inode() (uint64, error) {
	var at unix.Stat_t
	var err error
	if n.file == nil {
		err = unix.Stat("/proc/thread-self/ns/net", &at)
	} else {
		err = unix.Fstat(n.FD(), &at)
	}
	if err != nil {
		return 0, fmt.Errorf("there is no /proc to look for processes in: %w", err)
	}
	return at.Ino, nil
}

// IsCurrent reports whether the namespace is the program's own, which needs no
// privilege to be worked in. Without /proc that cannot be told.
func (n *Namespace) IsCurrent() bool {
	if n.file == nil {
		return true
	}
	here, err := Current().Inode()
	there, otherErr := n.Inode()
	return err == nil && otherErr == nil && here == there
}

// IsHost reports whether this is the machine's initial network namespace. It is
// told by a sysctl that the kernel shows nowhere else; without /proc, by the
// namespace's number, which is fixed since Linux 6.18 (NET_NS_INIT_INO).
func (n *Namespace) IsHost() (bool, error) {
	var host bool
	err := n.Inside(func() error {
		_, err := os.Stat("/proc/sys/net/core/netdev_max_backlog")
		host = err == nil || hasInitialNumber()
		return nil
	})
	return host, err
}

func hasInitialNumber() bool {
	const siocgskns, netNSInitIno = 0x894c, 0xeffffff9
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(s)
	fd, err := unix.IoctlRetInt(s, siocgskns)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	var at unix.Stat_t
	return unix.Fstat(fd, &at) == nil && at.Ino == netNSInitIno
}

// ReadEtc reads a file of /etc as processes in the namespace see it: that of
// ip-netns(8) for a namespace by name, else the one below the root of the process
// by which the namespace was opened, else the program's own. It is an error that
// matches fs.ErrNotExist that there is none, and a *FileError that what is there is
// not to be read. A file that does not answer is given up with the context.
func (n *Namespace) ReadEtc(ctx context.Context, name string) ([]byte, error) {
	if n.name != "" {
		text, err := readOwn(ctx, filepath.Join("/etc/netns", n.name, name))
		if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTDIR) {
			return text, err
		}
	}
	if n.root != nil {
		return n.root.read(ctx, "/etc/"+name)
	}
	return readOwn(ctx, "/etc/"+name)
}
