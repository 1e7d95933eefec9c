// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package stderr is standard error for what a command says beside its work.
package stderr

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// A Writer writes messages to a file. It neither fails nor ends the program, and waits no longer
// than two seconds in all where nothing reads: what cannot be written is lost.
type Writer struct {
	file   *os.File
	waited time.Duration
	broken bool
}

// New returns a writer to the file of standard error.
func New(file *os.File) *Writer { return &Writer{file: file} }

// Fd is the file's descriptor, by which [IsTerminal] tells what it is.
func (w *Writer) Fd() uintptr { return w.file.Fd() }

const (
	maxWait  = 2 * time.Second
	maxWrite = 4096 // bytes that a pipe takes whole once it is ready (PIPE_BUF)
)

// Write writes past os.File, which ends the program where standard error is a pipe without a reader.
// Its result is always the length of text, without an error.
func (w *Writer) Write(text []byte) (int, error) {
	for rest := text; len(rest) > 0 && !w.broken; {
		if !w.ready() {
			w.broken = true
			break
		}
		n, err := unix.Write(int(w.file.Fd()), rest[:min(len(rest), maxWrite)])
		switch {
		case err == unix.EINTR || err == unix.EAGAIN:
		case err != nil || n == 0:
			w.broken = true
		default:
			rest = rest[n:]
		}
	}
	return len(text), nil
}

// ready waits until something can be written.
func (w *Writer) ready() bool {
	fds := []unix.PollFd{{Fd: int32(w.file.Fd()), Events: unix.POLLOUT}}
	for w.waited < maxWait {
		start := time.Now()
		n, err := unix.Poll(fds, int((maxWait-w.waited)/time.Millisecond)+1)
		w.waited += time.Since(start)
		if err != unix.EINTR {
			return err == nil && n > 0
		}
	}
	return false
}
