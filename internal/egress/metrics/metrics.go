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
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
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
	registry *prometheus.Registry
	otel     bool

	opened, closed, sent, received *prometheus.CounterVec
	requests                       *prometheus.CounterVec // with names of Istio
	durations                      *prometheus.HistogramVec
	lost                           prometheus.Gauge

	mu     sync.Mutex
	series map[Series]bool
}

// New are metrics under one kind of names, in which nothing was counted yet. The error is that there are no such names.
func New(version, names string) (*Metrics, error) {
	m := &Metrics{registry: prometheus.NewRegistry(), otel: names == OTel, series: map[Series]bool{}}
	switch names {
	case Istio:
		m.istio()
	case OTel:
		m.opentelemetry()
	default:
		return nil, fmt.Errorf("%q are not names of metrics (want %s or %s)", names, Istio, OTel)
	}
	m.lost = prometheus.NewGauge(prometheus.GaugeOpts{Name: "weir_egress_uncounted", Help: "Copies of packets that were lost, which tell names, and packets that full sets had no room for."})
	build := prometheus.NewGauge(prometheus.GaugeOpts{Name: "weir_build_info", Help: "1, with the version as label.", ConstLabels: prometheus.Labels{"version": version}})
	build.Set(1)
	m.registry.MustRegister(m.opened, m.closed, m.sent, m.received, m.durations, m.lost, build, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if m.requests != nil {
		m.registry.MustRegister(m.requests)
	}
	return m, nil
}

func (m *Metrics) istio() {
	labels := []string{"reporter", "source_app", "source_workload", "source_workload_namespace", "destination_app", "destination_service", "destination_service_name",
		"destination_service_namespace", "destination_cluster", "request_protocol", "response_flags", "name_source"}
	counter := func(name, help string, more ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, append(labels[:len(labels):len(labels)], more...))
	}
	m.opened = counter("istio_tcp_connections_opened_total", "Connections that were opened.")
	m.closed = counter("istio_tcp_connections_closed_total", "Connections whose end was heard.")
	m.sent = counter("istio_tcp_received_bytes_total", "Bytes that the caller sent.")
	m.received = counter("istio_tcp_sent_bytes_total", "Bytes that the caller received.")
	m.requests = counter("istio_requests_total", "HTTP requests.", "response_code", "method")
	m.durations = prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "istio_request_duration_milliseconds", Help: "Time until the answer was whole.",
		Buckets: []float64{.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000, 60000, 300000}}, append(labels, "response_code", "method"))
}

func (m *Metrics) opentelemetry() {
	labels := []string{"service_name", "server_address", "server_port", "network_transport", "weir_name_source"}
	counter := func(name, help string, more prometheus.Labels) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help, ConstLabels: more}, labels)
	}
	m.opened = counter("weir_egress_connections_opened_total", "Connections that were opened.", nil)
	m.closed = counter("weir_egress_connections_closed_total", "Connections whose end was heard.", nil)
	m.sent = counter("weir_egress_io_bytes_total", "Bytes.", prometheus.Labels{"network_io_direction": "transmit"})
	m.received = counter("weir_egress_io_bytes_total", "Bytes.", prometheus.Labels{"network_io_direction": "receive"})
	m.durations = prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "http_client_request_duration_seconds", Help: "Time until the answer was whole.",
		Buckets: []float64{.005, .01, .025, .05, .075, .1, .25, .5, .75, 1, 2.5, 5, 7.5, 10}}, append(labels, "http_response_status_code", "http_request_method"))
}

// labels are the values of a series' labels.
func (m *Metrics) labels(s Series) []string {
	if m.otel {
		return []string{s.App, s.Host, strconv.Itoa(int(s.Port)), transport(s.Proto), s.By}
	}
	const unknown = "unknown"
	namespace, name, isPod := strings.Cut(s.App, "/")
	if !isPod || namespace == "" {
		namespace, name = unknown, s.App
	}
	return []string{"source", name, name, namespace, unknown, s.Host, s.Host, unknown, unknown, s.Proto, "-", s.By}
}

func transport(proto string) string {
	if proto == "http" {
		return "tcp"
	}
	return proto
}

// known is the series, or other where there are too many. Labels are UTF-8 whatever a client wrote.
func (m *Metrics) known(s Series) Series {
	s.App, s.Host = strings.ToValidUTF8(s.App, "?"), strings.ToValidUTF8(s.Host, "?")
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.series[s] {
		return s
	}
	if len(m.series) >= maxSeries {
		return other
	}
	m.series[s] = true
	return s
}

// Moved counts what a series moved since it was counted last.
func (m *Metrics) Moved(s Series, t Traffic) {
	labels := m.labels(m.known(s))
	m.opened.WithLabelValues(labels...).Add(float64(t.Opened))
	m.closed.WithLabelValues(labels...).Add(float64(t.Closed))
	m.sent.WithLabelValues(labels...).Add(float64(t.Sent))
	m.received.WithLabelValues(labels...).Add(float64(t.Received))
}

// Requested counts an HTTP request that was answered with a code, after a time.
func (m *Metrics) Requested(s Series, method string, code int, took time.Duration) {
	labels := append(m.labels(m.known(s)), strconv.Itoa(code), methodOf(method))
	if m.otel {
		m.durations.WithLabelValues(labels...).Observe(took.Seconds())
		return
	}
	m.requests.WithLabelValues(labels...).Inc()
	m.durations.WithLabelValues(labels...).Observe(float64(took) / float64(time.Millisecond))
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
func (m *Metrics) Uncounted(n uint64) { m.lost.Set(float64(n)) }

// Handler answers scrapes.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4})
}
