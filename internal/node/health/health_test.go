// SPDX-License-Identifier: Apache-2.0

//go:build linux

package health

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// TestReady: a line for each thing that is missing, in an order that does not change.
func TestReady(t *testing.T) {
	var r Ready
	ask := func(path string) (int, string) {
		w := httptest.NewRecorder()
		r.Handler().ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		return w.Code, w.Body.String()
	}
	for _, tt := range []struct {
		change func()
		code   int
		body   string
	}{
		{func() {}, 200, "ready\n"},
		{func() { r.Missing("the plugin", "no list"); r.Missing("pods", "not listed yet") }, 503, "pods: not listed yet\nthe plugin: no list\n"},
		{func() { r.Missing("the plugin", "read-only"); r.Done("pods") }, 503, "the plugin: read-only\n"},
		{func() { r.Done("the plugin"); r.Done("what was never missing") }, 200, "ready\n"},
	} {
		tt.change()
		if code, body := ask("/readyz"); code != tt.code || body != tt.body {
			t.Errorf("/readyz is %d %q, want %d %q", code, body, tt.code, tt.body)
		}
		if code, _ := ask("/healthz"); code != 200 {
			t.Errorf("/healthz is %d", code)
		}
	}
	w := httptest.NewRecorder()
	if r.Handler().ServeHTTP(w, httptest.NewRequest("POST", "/readyz", nil)); w.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST is answered with %d", w.Code)
	}
}

// TestServe answers until its context ends, and tells of an address that is taken.
func TestServe(t *testing.T) {
	// An address of its own, of which nobody else takes the port while it is free.
	ln, err := net.Listen("tcp", "127.0.15.21:0")
	if err != nil {
		t.Fatal(err)
	}
	var r Ready
	if err := Serve(t.Context(), ln.Addr().String(), r.Handler()); err == nil {
		t.Error("an address that is taken is served")
	}
	address := ln.Addr().String()
	ln.Close()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- Serve(ctx, address, r.Handler()) }()
	for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		resp, err := http.Get("http://" + address + "/healthz")
		if err == nil {
			resp.Body.Close()
			break
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
