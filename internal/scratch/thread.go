// SPDX-License-Identifier: Apache-2.0

//go:build linux

package scratch

import (
	"errors"
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// onThread runs f on an OS thread of its own that ends with f, so that what f changes of its thread
// (the namespace it is in, the identity it has) reaches no other goroutine and need not be undone.
func onThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with this goroutine
		if unix.Gettid() == unix.Getpid() {
			// The main thread cannot end, and /proc/self shows its namespace as the process's.
			// While it is held here, f's goroutine gets another.
			defer runtime.UnlockOSThread()
			done <- onThread(f)
			return
		}
		err := errors.New("the function left its goroutine without returning") // as testing.T.FailNow does
		defer func() { done <- err }()
		err = f()
	}()
	return <-done
}

// become gives the calling thread another identity for the sockets and files that it opens from now on.
func become(uid, gid uint32) error {
	// Group first: changing it needs the capabilities of the user that we still are. Neither call
	// reports failure; each answers with the ID before it, and an ID of -1 changes nothing.
	_ = unix.Setfsgid(int(gid))
	_ = unix.Setfsuid(int(uid))
	isGID, err := unix.SetfsgidRetGid(-1)
	if err != nil {
		return fmt.Errorf("read the thread's group: %w", err)
	}
	isUID, err := unix.SetfsuidRetUid(-1)
	if err != nil {
		return fmt.Errorf("read the thread's user: %w", err)
	}
	if uint32(isUID) != uid || uint32(isGID) != gid {
		return fmt.Errorf("become %d:%d: %w (needs CAP_SETUID and CAP_SETGID, and both IDs in this user namespace)",
			uid, gid, unix.EPERM)
	}
	return nil
}
