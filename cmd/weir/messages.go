package main

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// messages is standard error for what a command says beside its work. It neither
// fails nor ends the program, and waits no longer than [messagesPatience] in all
// where nobody reads: what cannot be written is lost.
type messages struct {
	*os.File
	waited time.Duration
	broken bool
}

const (
	messagesPatience = 2 * time.Second
	atOnce           = 4096 // bytes that a pipe takes whole once it is ready (PIPE_BUF)
)

// Write writes past os.File: that ends the program where standard error is a pipe
// whose reader is gone.
func (m *messages) Write(text []byte) (int, error) {
	for rest := text; len(rest) > 0 && !m.broken; {
		if !m.ready() {
			m.broken = true
			break
		}
		n, err := unix.Write(int(m.Fd()), rest[:min(len(rest), atOnce)])
		switch {
		case err == unix.EINTR || err == unix.EAGAIN:
		case err != nil || n == 0:
			m.broken = true
		default:
			rest = rest[n:]
		}
	}
	return len(text), nil
}

// ready waits until something can be written.
func (m *messages) ready() bool {
	fds := []unix.PollFd{{Fd: int32(m.Fd()), Events: unix.POLLOUT}}
	for m.waited < messagesPatience {
		start := time.Now()
		n, err := unix.Poll(fds, int((messagesPatience-m.waited)/time.Millisecond)+1)
		m.waited += time.Since(start)
		if err != unix.EINTR {
			return err == nil && n > 0
		}
	}
	return false
}
