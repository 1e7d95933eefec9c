// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"cmp"
	"context"
	"net/http"
	"strings"

	"github.com/urfave/cli/v2"
	"github.com/weir-mesh/weir/internal/egress/metrics"
	"github.com/weir-mesh/weir/internal/egress/watch"
	"github.com/weir-mesh/weir/internal/escape"
	"github.com/weir-mesh/weir/internal/node/health"
	"github.com/weir-mesh/weir/internal/node/inventory"
	"github.com/weir-mesh/weir/internal/version"
	"github.com/weir-mesh/weir/netns"
)

// exporter has reports scraped. The zero exporter has none.
type exporter struct {
	metrics *metrics.Metrics
	totals  *metrics.Totals
	users   map[string]string
	failed  chan error
}

// exported begins to answer scrapes, where --metrics says so.
func exported(cc *cli.Context, users map[string]string) (exporter, error) {
	address := cc.String("metrics")
	if address == "" {
		return exporter{}, nil
	}
	m, err := metrics.New(version.String(), cc.String("metrics-names"))
	if err != nil {
		return exporter{}, usageError{err}
	}
	e := exporter{metrics: m, totals: metrics.NewTotals(m), users: users, failed: make(chan error, 1)}
	go func() { e.failed <- scraped(cc.Context, address, m) }()
	return e, nil
}

// scraped answers scrapes until the context ends, at /metrics and where Istio's agent does.
func scraped(ctx context.Context, address string, m *metrics.Metrics) error {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", m.Handler())
	mux.Handle("GET /stats/prometheus", m.Handler())
	return health.Serve(ctx, address, mux)
}

// take counts what a report has more than the last.
func (e exporter) take(r watch.Report) {
	if e.metrics == nil {
		return
	}
	now := map[metrics.Series]metrics.Traffic{}
	for _, row := range r.Rows {
		s := metrics.Series{App: escape.Text(cmp.Or(e.users[row.Owner], row.Owner)), Host: escape.Text(row.Name()), Port: row.Port, Proto: row.Proto, By: row.By}
		t := now[s]
		now[s] = metrics.Traffic{Opened: t.Opened + row.Conns, Closed: t.Closed + row.Closed, Sent: t.Sent + row.Sent, Received: t.Received + row.Received}
	}
	e.totals.Set(now)
	e.metrics.Uncounted(r.Lost + r.Overflow)
}

// podsOf finds the pods of the node, as weir list does, with the names that libcni's notes have.
func podsOf(cache string) func(context.Context) ([]watch.Pod, error) {
	sources := []inventory.Source{inventory.Cache(cache), inventory.Named(netns.Folder), inventory.Processes{}}
	return func(ctx context.Context) (out []watch.Pod, err error) {
		found, err := inventory.All(ctx, sources)
		for _, p := range found {
			out = append(out, watch.Pod{Name: nameOf(p), Netns: p.Netns, Inode: p.Inode, Addresses: p.Addresses})
		}
		return out, err
	}
}

func nameOf(p inventory.Pod) string {
	name, isNamed := strings.CutPrefix(p.Netns, netns.Folder+"/")
	switch {
	case p.IsPod():
		return p.String()
	case p.UID != "":
		return p.UID
	case isNamed:
		return name
	}
	return p.Netns
}
