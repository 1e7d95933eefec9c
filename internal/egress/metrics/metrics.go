// SPDX-License-Identifier: Apache-2.0

// Package metrics is what is called, for Prometheus: under the names of Istio's standard metrics, so that dashboards
// made for them work, or under those of OpenTelemetry's conventions. It knows neither kernel nor network.
package metrics

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"
)

// Names of metrics.
const (
	Istio = "istio"
	OTel  = "otel"
)

// Series is whose traffic is counted, and with which host.
type Series struct {
	App   string // who calls: a user, a cgroup or a pod, as namespace/name
	Host  string
	Port  uint16
	Proto string // tcp, udp or http
	By    string // what the host's name is known from
}

// Traffic is what a series moved. Sent is what the caller sent.
type Traffic struct{ Opened, Closed, Sent, Received uint64 }

// maxSeries bounds how many are told apart: names are the client's to make up.
const maxSeries = 4000

// other is what later ones count for.
var other = Series{Host: "other"}

// Metrics count. They may be used by several goroutines at once.
type Metrics struct {
	set   *metrics.Set
	names names
	build string
	lost  atomic.Uint64

	mu     sync.Mutex
	series map[Series]*counted
}

// counted is what a series counts.
type counted struct {
	labels string
	moved  [4]*metrics.Counter // opened, closed, sent, received

	requests map[request]requested
}

// request is what requests differ by.
type request struct {
	method string
	code   int
}

type requested struct {
	count     *metrics.Counter // nil: durations count them
	durations *metrics.PrometheusHistogram
}

// names are those of one kind.
type names struct {
	opened, closed, sent, received, durations string
	requests                                  string   // "": durations count them
	labels                                    []string // of a series
	code, method                              string   // labels of requests
	values                                    func(Series) []string
	unit                                      time.Duration // of durations
	buckets                                   []float64
}

// New are metrics under one kind of names, in which nothing was counted yet. The error is that there are no such names.
func New(version, kind string) (*Metrics, error) {
	m := &Metrics{set: metrics.NewSet(), build: "weir_build_info" + labels([]string{"version"}, []string{version}), series: map[Series]*counted{}}
	switch kind {
	case Istio:
		m.names = istio()
	case OTel:
		m.names = opentelemetry()
	default:
		return nil, fmt.Errorf("%q are not names of metrics (want %s or %s)", kind, Istio, OTel)
	}
	return m, nil
}

// istio are the names of Istio's standard metrics, to which "received" is what the destination received.
func istio() names {
	return names{
		opened: "istio_tcp_connections_opened_total", closed: "istio_tcp_connections_closed_total",
		sent: "istio_tcp_received_bytes_total", received: "istio_tcp_sent_bytes_total",
		requests: "istio_requests_total", durations: "istio_request_duration_milliseconds",
		labels: []string{"reporter", "source_app", "source_workload", "source_workload_namespace", "destination_app", "destination_service", "destination_service_name",
			"destination_service_namespace", "destination_cluster", "request_protocol", "response_flags", "name_source"},
		code: "response_code", method: "method", unit: time.Millisecond,
		buckets: []float64{.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000, 60000, 300000},
		values: func(s Series) []string {
			const unknown = "unknown"
			namespace, name, isPod := strings.Cut(s.App, "/")
			if !isPod || namespace == "" {
				namespace, name = unknown, s.App
			}
			return []string{"source", name, name, namespace, unknown, s.Host, s.Host, unknown, unknown, s.Proto, "-", s.By}
		},
	}
}

// opentelemetry are the names of OpenTelemetry's conventions for HTTP clients, and for bytes alike.
func opentelemetry() names {
	return names{
		opened: "weir_egress_connections_opened_total", closed: "weir_egress_connections_closed_total",
		sent: "weir_egress_io_transmit_bytes_total", received: "weir_egress_io_receive_bytes_total",
		durations: "http_client_request_duration_seconds",
		labels:    []string{"service_name", "server_address", "server_port", "network_transport", "weir_name_source"},
		code:      "http_response_status_code", method: "http_request_method", unit: time.Second,
		buckets: []float64{.005, .01, .025, .05, .075, .1, .25, .5, .75, 1, 2.5, 5, 7.5, 10},
		values: func(s Series) []string {
			return []string{s.App, s.Host, strconv.Itoa(int(s.Port)), transport(s.Proto), s.By}
		},
	}
}

func transport(proto string) string {
	if proto == "http" {
		return "tcp"
	}
	return proto
}

// known is what a series counts, or what other does where there are too many.
func (m *Metrics) known(s Series) *counted {
	m.mu.Lock()
	defer m.mu.Unlock()
	if c := m.series[s]; c != nil {
		return c
	}
	if len(m.series) >= maxSeries {
		s = other
		if c := m.series[s]; c != nil {
			return c
		}
	}
	c := &counted{labels: labels(m.names.labels, m.names.values(s))}
	for i, name := range []string{m.names.opened, m.names.closed, m.names.sent, m.names.received} {
		c.moved[i] = m.set.GetOrCreateCounter(name + c.labels)
	}
	m.series[s] = c
	return c
}

// labels are names and values in braces. A value is UTF-8 whatever a client wrote.
func labels(names, values []string) string {
	escaped := strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)
	var b strings.Builder
	for i, name := range names {
		fmt.Fprintf(&b, `,%s="%s"`, name, escaped.Replace(strings.ToValidUTF8(values[i], "?")))
	}
	return "{" + b.String()[1:] + "}"
}

// Moved counts what a series moved since it was counted last.
func (m *Metrics) Moved(s Series, t Traffic) {
	of := m.known(s)
	for i, more := range [...]uint64{t.Opened, t.Closed, t.Sent, t.Received} {
		of.moved[i].AddInt64(int64(more))
	}
}

// Requested counts a request: the code of its answer, and how long that took.
func (m *Metrics) Requested(s Series, method string, code int, took time.Duration) {
	r := m.requested(m.known(s), request{methodOf(method), code})
	if r.count != nil {
		r.count.Inc()
	}
	r.durations.Update(float64(took) / float64(m.names.unit))
}

// requested is what requests of a series count, which are alike.
func (m *Metrics) requested(of *counted, kind request) requested {
	m.mu.Lock()
	defer m.mu.Unlock()
	r, known := of.requests[kind]
	if known {
		return r
	}
	text := strings.TrimSuffix(of.labels, "}") + "," + labels([]string{m.names.code, m.names.method}, []string{strconv.Itoa(kind.code), kind.method})[1:]
	if m.names.requests != "" {
		r.count = m.set.GetOrCreateCounter(m.names.requests + text)
	}
	r.durations = m.set.GetOrCreatePrometheusHistogramExt(m.names.durations+text, m.names.buckets)
	if of.requests == nil {
		of.requests = map[request]requested{}
	}
	of.requests[kind] = r
	return r
}

// methodOf is a method of RFC 9110 or, since a client may write any word, _OTHER as OpenTelemetry has it.
func methodOf(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodConnect, http.MethodOptions, http.MethodTrace:
		return method
	}
	return "_OTHER"
}

// Uncounted says how much could not be counted so far.
func (m *Metrics) Uncounted(n uint64) { m.lost.Store(n) }

// Handler answers scrapes.
func (m *Metrics) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		fmt.Fprintf(w, "%s 1\nweir_egress_uncounted %d\n", m.build, m.lost.Load())
		m.set.WritePrometheus(w)
		metrics.WriteProcessMetrics(w)
	})
}
