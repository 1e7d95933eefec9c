// SPDX-License-Identifier: Apache-2.0

//go:build linux

package scratch

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// namesDir is where ip(8) and others look for namespaces by name.
const namesDir = "/run/netns"

// A Namespace is a network namespace, held open by a file descriptor. One that nothing else holds
// goes when it is closed, with every link, rule and socket in it.
type Namespace struct {
	file *os.File
	name string // its bind mount in namesDir, once it has one
}

// NewNamespace makes an empty network namespace with its loopback up.
func NewNamespace() (*Namespace, error) {
	n := new(Namespace)
	err := onThread(func() (err error) {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		n.file, err = os.Open("/proc/thread-self/ns/net")
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("new network namespace: %w", err)
	}
	if err := n.Up("lo"); err != nil {
		return nil, errors.Join(fmt.Errorf("new network namespace: %w", err), n.Close())
	}
	return n, nil
}

// OpenNamespace opens the network namespace at path: a bind mount, or a file under /proc. Closing it
// leaves the namespace to its other holders.
func OpenNamespace(path string) (*Namespace, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open network namespace: %w", err)
	}
	n := &Namespace{file: file}
	// Any file opens; only a network namespace can be entered.
	if err := n.Do(func() error { return nil }); err != nil {
		return nil, errors.Join(fmt.Errorf("open network namespace %q: %w", path, err), file.Close())
	}
	return n, nil
}

// CurrentNamespace opens the network namespace of the calling thread.
func CurrentNamespace() (*Namespace, error) {
	return OpenNamespace("/proc/thread-self/ns/net")
}

// Bind gives the namespace a name that other programs know it by (`weir --netns NAME`, `ip netns`),
// until it is closed. It needs a mount namespace in which /run/netns can be written, which a user
// namespace alone does not give: there, [Namespace.Path] serves. A name that exists is an error.
func (n *Namespace) Bind(name string) error {
	if n.name != "" {
		return fmt.Errorf("bind network namespace as %q: it is already bound as %q", name, n.name)
	}
	if name != filepath.Base(name) || !filepath.IsLocal(name) || name == "." {
		return fmt.Errorf("bind network namespace: %q is not a file name", name)
	}
	if err := os.MkdirAll(namesDir, 0o755); err != nil {
		return fmt.Errorf("bind network namespace: %w", err)
	}
	target := filepath.Join(namesDir, name)
	point, err := os.OpenFile(target, os.O_CREATE|os.O_EXCL|os.O_RDONLY, 0o444)
	if err != nil {
		return fmt.Errorf("bind network namespace: %w", err)
	}
	_ = point.Close() // nothing was written
	if err := unix.Mount(n.Path(), target, "", unix.MS_BIND, ""); err != nil {
		return errors.Join(fmt.Errorf("bind network namespace at %s: %w", target, err), os.Remove(target))
	}
	n.name = name
	return nil
}

// Path is where another process can open the namespace: its name's bind mount if it has one, and
// otherwise this process's descriptor under /proc. It holds until the namespace is closed.
func (n *Namespace) Path() string {
	if n.name != "" {
		return filepath.Join(namesDir, n.name)
	}
	return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), n.file.Fd())
}

// Do runs f inside the namespace, on an OS thread of its own that ends with f, and returns f's error.
// Sockets that f opens and processes that it starts are of the namespace and stay so. Goroutines that
// it starts are not inside.
func (n *Namespace) Do(f func() error) error {
	return onThread(func() error {
		if err := n.enter(); err != nil {
			return err
		}
		return f()
	})
}

// DoAs is [Namespace.Do] with another identity: sockets that f itself opens or accepts belong to the
// user uid and the group gid, as nft's skuid and skgid see them. Capabilities over the network stay.
func (n *Namespace) DoAs(uid, gid uint32, f func() error) error {
	return n.Do(func() error {
		if err := become(uid, gid); err != nil {
			return err
		}
		return f()
	})
}

// enter moves the calling thread into the namespace.
func (n *Namespace) enter() error {
	raw, err := n.file.SyscallConn() // keeps the descriptor from being closed, and reused, meanwhile
	if err != nil {
		return fmt.Errorf("enter network namespace: %w", err)
	}
	entered := os.ErrClosed // when the descriptor is no longer there to be used
	_ = raw.Control(func(fd uintptr) { entered = unix.Setns(int(fd), unix.CLONE_NEWNET) })
	if entered != nil {
		return fmt.Errorf("enter network namespace: %w", entered)
	}
	return nil
}

// Close lets go of the namespace and removes its name. The kernel tears a namespace down a moment
// after its last holder is gone.
func (n *Namespace) Close() error {
	var unbind error
	if n.name != "" {
		target := filepath.Join(namesDir, n.name)
		if unbind = unix.Unmount(target, unix.MNT_DETACH); unbind == nil {
			unbind = os.Remove(target)
		}
		n.name = ""
	}
	if err := errors.Join(unbind, n.file.Close()); err != nil {
		return fmt.Errorf("close network namespace: %w", err)
	}
	return nil
}
