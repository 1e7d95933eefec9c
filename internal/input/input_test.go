// SPDX-License-Identifier: Apache-2.0

package input

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestRead(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("of the file"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		why, name string
		stdin     io.Reader
		most      int64
		want      string
	}{
		{"a file", file, nil, 100, "of the file"},
		{"a file though there is standard input", file, strings.NewReader("of stdin"), 100, "of the file"},
		{"standard input by its name", "-", strings.NewReader("of stdin"), 100, "of stdin"},
		{"one byte more than may be, which tells that it is too long", "-", strings.NewReader("of stdin"), 3, "of s"},
	} {
		got, err := Read(t.Context(), tt.name, tt.stdin, tt.most)
		if err != nil || string(got) != tt.want {
			t.Errorf("%s: %q, %v, want %q", tt.why, got, err, tt.want)
		}
	}
}

// TestReadFails: a name is told escaped, and a name that is longer than any in short.
func TestReadFails(t *testing.T) {
	for _, tt := range []struct{ name, want string }{
		{"no\nsuch", `no\nsuch`},
		{strings.Repeat("x", 5000), "..."},
		{"-", "-"}, // where there is no standard input, it is a file's name
	} {
		_, err := Read(t.Context(), tt.name, nil, 1)
		if err == nil || !strings.Contains(err.Error(), tt.want) || len(err.Error()) > 400 {
			t.Errorf("%.20q: %v, want %q in it", tt.name, err, tt.want)
		}
	}
}

// TestUntil: a reader that blocks ends with its context, and says why that ended.
func TestUntil(t *testing.T) {
	r, w := io.Pipe()
	defer w.Close()
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("interrupted")
	cancel(why)
	if n, err := Until(ctx, r).Read(make([]byte, 8)); n != 0 || !errors.Is(err, why) {
		t.Errorf("read %d bytes, %v", n, err)
	}
	got := make([]byte, 8)
	if n, err := Until(t.Context(), strings.NewReader("text")).Read(got); err != nil || string(got[:n]) != "text" {
		t.Errorf("read %q, %v", got[:n], err)
	}
}

// TestReadIsInterrupted: a pipe into which nothing is written ends with the context.
func TestReadIsInterrupted(t *testing.T) {
	name := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(name, 0o600); err != nil {
		t.Fatal(err)
	}
	writer, err := os.OpenFile(name, os.O_RDWR, 0) // else to open it for reading would wait
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Read(ctx, name, nil, 8); !errors.Is(err, context.Canceled) {
		t.Errorf("the read ended with %v", err)
	}
}
