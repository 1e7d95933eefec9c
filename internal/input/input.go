// SPDX-License-Identifier: Apache-2.0

// Package input reads what a command line names: files and standard input, bounded, and
// no longer than a context allows. It knows nothing of what they hold.
package input

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"syscall"

	"github.com/weir-mesh/weir/internal/escape"
	"github.com/weir-mesh/weir/internal/term"
)

// Name is a file's name for messages.
func Name(file string) string {
	if file == "-" {
		return "standard input"
	}
	return file
}

// Read reads a file, or stdin where the name is "-" and there is one, up to one byte more
// than the most that it may hold. What is no regular file may block: the context ends that.
func Read(ctx context.Context, name string, stdin io.Reader, most int64) ([]byte, error) {
	if name != "-" || stdin == nil {
		f, err := open(name)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		stdin = f
		if info, err := f.Stat(); err == nil && !info.Mode().IsRegular() {
			stdin = Until(ctx, f)
		}
	}
	data, err := io.ReadAll(io.LimitReader(stdin, most+1))
	if len(data) > large {
		expectLarge()
	}
	return data, err
}

// open opens a file, whose name is told whole unless it is longer than any.
func open(name string) (*os.File, error) {
	f, err := os.Open(name)
	var wrong *fs.PathError
	if errors.As(err, &wrong) {
		shown := escape.Text(name)
		if wrong.Err == syscall.ENAMETOOLONG {
			shown = escape.Text(term.Shorten(name))
		}
		err = &fs.PathError{Op: wrong.Op, Path: shown, Err: wrong.Err}
	}
	return f, err
}

// Until is a reader that gives up when the context is done. A read that was begun goes on
// without it: what it reads is lost.
func Until(ctx context.Context, r io.Reader) io.Reader { return interruptible{ctx, r} }

type interruptible struct {
	ctx context.Context
	io.Reader
}

func (r interruptible) Read(p []byte) (int, error) {
	type result struct {
		n   int
		err error
	}
	done := make(chan result, 1)
	buffer := make([]byte, len(p))
	go func() {
		n, err := r.Reader.Read(buffer)
		done <- result{n, err}
	}()
	select {
	case got := <-done:
		return copy(p, buffer[:got.n]), got.err
	case <-r.ctx.Done():
		return 0, context.Cause(r.ctx)
	}
}
