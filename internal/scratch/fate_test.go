// SPDX-License-Identifier: Apache-2.0

//go:build linux

package scratch

import (
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestEnding(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want string
	}{
		{fmt.Errorf("wrapped: %w", os.NewSyscallError("connect", unix.ECONNREFUSED)), "refused"},
		{os.ErrDeadlineExceeded, "timeout"},
		{os.NewSyscallError("connect", unix.ETIMEDOUT), "timeout"},
		{io.EOF, "closed"},
		{os.NewSyscallError("connect", unix.EHOSTUNREACH), "error:No route to host"},
		{os.NewSyscallError("read", unix.ECONNRESET), "error:Connection reset by peer"},
		{io.ErrUnexpectedEOF, "error:unexpected EOF"},
	} {
		if got := ending(tt.err); got != tt.want {
			t.Errorf("%v: got %q, want %q", tt.err, got, tt.want)
		}
	}
	if strings.Contains(ending(unix.ENOENT), "no such") {
		t.Error("the system's words start with a capital letter")
	}
}
