// SPDX-License-Identifier: Apache-2.0

//go:build linux

package agent

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestAsk: an answer, one of another protocol, and none.
func TestAsk(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "agent.sock")
	listener, err := Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(socket); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- Serve(ctx, listener, func(_ context.Context, r Request) Answer {
			return Answer{Decision: Leave, Reason: r.Namespace + "/" + r.Name}
		})
	}()
	if a, err := Ask(ctx, socket, Request{Command: Add, Namespace: "shop", Name: "cart"}); err != nil || a.Reason != "shop/cart" || a.Version != Version {
		t.Errorf("%+v, %v", a, err)
	}
	if err := Tell(ctx, socket, Request{Command: Del}); err != nil {
		t.Error(err)
	}
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte(`{"version":99,"command":"ADD"}` + "\n")); err != nil {
		t.Fatal(err)
	}
	var a Answer
	if err := receive(conn, &a); err != nil || a.Decision != Unknown {
		t.Errorf("to a later version: %+v, %v", a, err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if _, err := Ask(t.Context(), socket, Request{}); err == nil {
		t.Error("nothing answered, and that is not an error")
	}
}

// TestSilence: whoever takes a connection and says nothing is given up in time, and what is not an answer is
// an error.
func TestSilence(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "agent.sock")
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := Ask(ctx, socket, Request{}); err == nil || !strings.Contains(err.Error(), "no answer in time") {
		t.Errorf("%v", err)
	}
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Write([]byte("{\"decision\":\"maybe\"}\n"))
			_ = conn.Close()
		}
	}()
	for range 2 { // the first is the one that was given up
		if _, err := Ask(t.Context(), socket, Request{}); err == nil {
			t.Error("it is taken for an answer")
		}
	}
}
