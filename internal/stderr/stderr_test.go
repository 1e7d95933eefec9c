// SPDX-License-Identifier: Apache-2.0

//go:build linux

package stderr

import (
	"bytes"
	"io"
	"os"
	"testing"
	"time"
)

func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	return r, w
}

// write writes and holds the writer to its word: all is taken, and nothing fails.
func write(t *testing.T, to *Writer, text []byte) {
	t.Helper()
	if n, err := to.Write(text); n != len(text) || err != nil {
		t.Errorf("wrote %d bytes of %d: %v", n, len(text), err)
	}
}

func TestWhatIsReadArrivesWhole(t *testing.T) {
	r, w := pipe(t)
	text := bytes.Repeat([]byte("a message\n"), 100_000) // more than a pipe holds
	go func() {
		write(t, New(w), text)
		w.Close()
	}()
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, text) {
		t.Errorf("read %d bytes of %d: %v", len(got), len(text), err)
	}
}

func TestAPipeWithoutReaderFailsNothing(t *testing.T) {
	r, w := pipe(t)
	r.Close()
	write(t, New(w), []byte("a message\n"))
}

func TestAFullPipeIsWaitedForOnce(t *testing.T) {
	_, w := pipe(t)
	to := New(w)
	to.waited = maxWait - 10*time.Millisecond // as if it had waited before
	write(t, to, make([]byte, 1<<20))
	if !to.broken {
		t.Error("nothing read the pipe, and it is not given up")
	}
	write(t, to, []byte("lost"))
}
