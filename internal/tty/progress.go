// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tty

import (
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/weir-mesh/weir/internal/escape"
)

// Progress is a line on a terminal that says that work goes on. It comes once the work takes long, and goes when
// anything else is written by a writer of [Progress.Above]. A nil Progress shows nothing.
type Progress struct {
	to    io.Writer
	what  string
	start time.Time

	mu     sync.Mutex
	detail string
	timer  *time.Timer
	shown  bool
	over   bool
}

const (
	patience  = time.Second // before there is a line
	interval  = time.Second // until it is written anew
	clearLine = "\r\x1b[K"
)

// Start begins to show on a terminal that a work of this name goes on; nil where to is none.
func Start(to io.Writer, what string) *Progress {
	if !IsTerminal(to) {
		return nil
	}
	p := &Progress{to: bare(to), what: what, start: time.Now()}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.timer = time.AfterFunc(patience, p.tick)
	return p
}

func (p *Progress) tick() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over {
		return
	}
	p.show()
	p.timer.Reset(interval)
}

// show writes the line. The caller holds the lock.
func (p *Progress) show() {
	line := fmt.Sprintf("%s: %s", p.what, time.Since(p.start).Truncate(time.Second))
	if p.detail != "" {
		line += ", " + p.detail
	}
	if width := LookOf(p.to).Width; width > 1 && len(line) >= width {
		line = line[:width-1] // a line that wraps is not cleared whole
	}
	p.shown = true
	io.WriteString(p.to, clearLine+line)
}

// Say has the line end in how far the work is.
func (p *Progress) Say(format string, args ...any) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.detail = escape.Text(fmt.Sprintf(format, args...))
}

// Stop takes the line away, for good.
func (p *Progress) Stop() {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.over = true
	p.timer.Stop()
	p.clear()
}

func (p *Progress) clear() {
	if p.shown {
		io.WriteString(p.to, clearLine)
	}
	p.shown = false
}

// Above is a writer that takes the line away before it writes. A net around w stays the outermost.
func (p *Progress) Above(w io.Writer) io.Writer {
	switch net, isNet := w.(escape.Writer); {
	case p == nil:
		return w
	case isNet:
		return escape.Writer{Writer: above{p, net.Writer}}
	}
	return above{p, w}
}

// ProgressOf is what [Progress.Above] made a writer for, else nil.
func ProgressOf(w io.Writer) *Progress {
	if a, ok := escape.Unwrap(w).(above); ok {
		return a.progress
	}
	return nil
}

type above struct {
	progress *Progress
	io.Writer
}

// Write writes once the line is gone. No line is written meanwhile.
func (a above) Write(text []byte) (int, error) {
	a.progress.mu.Lock()
	defer a.progress.mu.Unlock()
	a.progress.clear()
	return a.Writer.Write(text)
}
