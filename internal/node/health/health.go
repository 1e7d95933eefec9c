// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package health answers probes over HTTP: whether the program lives, and whether it is ready or why not.
package health

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"
)

// Ready is what must be done before the program is ready.
type Ready struct {
	mu      sync.Mutex
	missing map[string]string // why, by what is missing
}

// Missing says that something is not so yet, and why.
func (r *Ready) Missing(what, why string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.missing == nil {
		r.missing = map[string]string{}
	}
	r.missing[what] = why
}

// Done says that it is.
func (r *Ready) Done(what string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.missing, what)
}

// Why is what is missing, a line each; none where the program is ready.
func (r *Ready) Why() (lines []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, what := range slices.Sorted(maps.Keys(r.missing)) {
		lines = append(lines, what+": "+r.missing[what])
	}
	return lines
}

// Handler answers /healthz, which is always well while the program answers, and /readyz, which is 503 with a
// line for each thing that is missing.
func (r *Ready) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		why := r.Why()
		if len(why) == 0 {
			fmt.Fprintln(w, "ready")
			return
		}
		w.WriteHeader(http.StatusServiceUnavailable)
		for _, line := range why {
			fmt.Fprintln(w, line)
		}
	})
	return mux
}

const headerTime = 5 * time.Second

// Serve answers at an address until the context ends.
func Serve(ctx context.Context, address string, handler http.Handler) error {
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "tcp", address)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: headerTime, WriteTimeout: 2 * headerTime, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
