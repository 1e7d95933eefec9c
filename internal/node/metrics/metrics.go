// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package metrics is what the node's agent counts, for Prometheus.
package metrics

import (
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/weir-mesh/weir/capture"
	"github.com/weir-mesh/weir/internal/node"
	"github.com/weir-mesh/weir/internal/node/escapes"
	"github.com/weir-mesh/weir/internal/node/inventory"
	"github.com/weir-mesh/weir/internal/node/keep"
)

// Metrics are the agent's. It is a node.Teller.
type Metrics struct {
	registry *prometheus.Registry
	istio    bool

	drift    *prometheus.CounterVec
	heal     *prometheus.HistogramVec
	noticed  prometheus.Histogram
	apply    *prometheus.HistogramVec
	failures prometheus.Counter
	overruns prometheus.Counter
	escaped  *prometheus.CounterVec
	installs *prometheus.CounterVec
	requests *prometheus.CounterVec
	repairs  *prometheus.CounterVec

	istioInstalls  *prometheus.CounterVec
	istioReady     prometheus.Gauge
	istioRequests  *prometheus.CounterVec
	istioRepairs   *prometheus.CounterVec
	istioReconcile *prometheus.CounterVec
	istioZtunnel   prometheus.Gauge

	mu      sync.Mutex
	writers map[string]bool
}

// State is what is read at each scrape.
type State interface {
	Pods() []node.Status
	Released() bool
}

const maxWriters = 32 // names of programs that are told apart: a pod can choose them

// New are metrics that nothing was counted in yet; with Istio's names too where that is asked for.
func New(version string, istioNames bool) *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry(), istio: istioNames, writers: map[string]bool{}}
	seconds := []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}
	counters := func(name, help string, labels ...string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
		m.registry.MustRegister(v)
		return v
	}
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
		m.registry.MustRegister(c)
		return c
	}
	gauge := func(name, help string) prometheus.Gauge {
		g := prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
		m.registry.MustRegister(g)
		return g
	}
	m.drift = counters("weir_drift_total", "Network namespaces found not to be as they should be, by the program that changed them and what it changed.", "writer", "kind")
	m.heal = prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "weir_heal_seconds", Help: "Time to look at a namespace and heal it.", Buckets: seconds}, []string{"outcome"})
	m.noticed = prometheus.NewHistogram(prometheus.HistogramOpts{Name: "weir_drift_noticed_seconds", Help: "Time from a notification of the kernel until a difference was found.", Buckets: seconds})
	m.apply = prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "weir_apply_seconds", Help: "Time of each part of an apply by the agent.", Buckets: seconds}, []string{"part"})
	m.registry.MustRegister(m.heal, m.noticed, m.apply)
	m.failures = counter("weir_apply_failures_total", "Applies by the agent that failed.")
	m.overruns = counter("weir_netlink_overruns_total", "Times that notifications of the kernel were lost, and every namespace was looked at.")
	m.escaped = counters("weir_escaped_packets_total", "Packets that opened a connection past the proxy of a captured pod: it should have been captured, and was not.", "direction")
	m.escaped.WithLabelValues("out") // there from the start, so that an increase from none is one
	m.escaped.WithLabelValues("in")
	m.installs = counters("weir_installs_total", "Installs of the plugin that changed something or failed.", "result")
	m.requests = counters("weir_plugin_requests_total", "Requests of the plugin, by CNI's command and the decision that was answered.", "command", "result")
	m.repairs = counters("weir_repairs_total", "Pods that were deleted or labelled because they were not captured.", "type", "result")
	m.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	build := prometheus.NewGauge(prometheus.GaugeOpts{Name: "weir_build_info", Help: "1, with the version as label.", ConstLabels: prometheus.Labels{"version": version}})
	build.Set(1)
	m.registry.MustRegister(build)
	if istioNames {
		m.istioInstalls = counters("istio_cni_installs_total", "weir_installs_total, as Istio's agent names it.", "result")
		m.istioReady = gauge("istio_cni_install_ready", "1 where the plugin is installed.")
		m.istioRequests = counters("istio_cni_plugin_requests_total", "weir_plugin_requests_total, with HTTP's codes as Istio's agent has them.", "response_code")
		m.istioRepairs = counters("istio_cni_repair_pods_repaired_total", "weir_repairs_total, as Istio's agent names it.", "type", "result")
		m.istioReconcile = counters("nodeagent_reconcile_events_total", "Namespaces that were healed.", "type")
		m.istioZtunnel = gauge("ztunnel_connected", "Proxies of the node that are connected.")
	}
	return m
}

// Watch has the state read at each scrape.
func (m *Metrics) Watch(s State) { m.registry.MustRegister(&podCollector{s}) }

// WatchProxies has the number of proxies of the node read at each scrape.
func (m *Metrics) WatchProxies(count func() int) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "weir_ztunnel_connected", Help: "Proxies of the node that are connected."},
		func() float64 { return float64(count()) }))
}

// Handler answers scrapes.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4})
}

// Found counts what a look found.
func (m *Metrics) Found(_ inventory.Pod, _ node.Status, f keep.Finding) {
	switch {
	case f.Err != nil:
		m.heal.WithLabelValues("failed").Observe(f.Healing.Seconds())
	case f.Healed:
		m.heal.WithLabelValues(f.Outcome).Observe(f.Healing.Seconds())
		if m.istio {
			m.istioReconcile.WithLabelValues("healed").Inc()
		}
	}
	if f.Anew || len(f.Differences)+len(f.Conflicts) == 0 {
		return
	}
	if f.Noticed > 0 {
		m.noticed.Observe(f.Noticed.Seconds())
	}
	kind := "found by looking"
	if len(f.Objects) > 0 {
		kind = f.Objects[0]
	}
	if f.First {
		kind = "found at start"
	}
	m.drift.WithLabelValues(m.writer(f.Writers), kind).Inc()
}

// writer is the program's name, of as many as are told apart.
func (m *Metrics) writer(all []string) string {
	if len(all) == 0 {
		return ""
	}
	name, _, _ := strings.Cut(all[0], ", PID ")
	if strings.HasPrefix(name, "netlink port") {
		name = "routing"
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.writers[name] && len(m.writers) >= maxWriters {
		return "others"
	}
	m.writers[name] = true
	return name
}

// Applied counts an apply.
func (m *Metrics) Applied(r capture.Report, err error) {
	if err != nil {
		m.failures.Inc()
		return
	}
	m.apply.WithLabelValues("read").Observe(r.Read.Seconds())
	m.apply.WithLabelValues("commit").Observe(r.Commit.Seconds())
	m.apply.WithLabelValues("verify").Observe(r.Verify.Seconds())
}

// Overrun counts lost notifications.
func (m *Metrics) Overrun() { m.overruns.Inc() }

// Escaped counts what passed the proxy of a pod by.
func (m *Metrics) Escaped(_ inventory.Pod, _ node.Status, n escapes.Count) {
	m.escaped.WithLabelValues("out").Add(float64(n.Out))
	m.escaped.WithLabelValues("in").Add(float64(n.In))
}

// Installed counts an install of the plugin.
func (m *Metrics) Installed(changed bool, err error) {
	result := "installed"
	switch {
	case err != nil:
		result = "failed"
	case !changed:
		result = "unchanged"
	}
	if changed || err != nil {
		m.installs.WithLabelValues(result).Inc()
	}
	if !m.istio {
		return
	}
	if err != nil {
		m.istioInstalls.WithLabelValues("UNKNOWN").Inc()
		m.istioReady.Set(0)
		return
	}
	if changed {
		m.istioInstalls.WithLabelValues("SUCCESS").Inc()
	}
	m.istioReady.Set(1)
}

// Asked counts a request of the plugin.
func (m *Metrics) Asked(command, decision string) {
	m.requests.WithLabelValues(command, decision).Inc()
	if m.istio {
		code := http.StatusOK
		if decision == "refuse" {
			code = http.StatusInternalServerError
		}
		m.istioRequests.WithLabelValues(strconv.Itoa(code)).Inc()
	}
}

// Repaired counts a pod that was deleted or labelled.
func (m *Metrics) Repaired(kind string, err error) {
	result := "success"
	if err != nil {
		result = "fail"
	}
	m.repairs.WithLabelValues(kind, result).Inc()
	if m.istio {
		m.istioRepairs.WithLabelValues(kind, result).Inc()
	}
}

// Proxies sets how many proxies of the node are connected, under Istio's name.
func (m *Metrics) Proxies(n int) {
	if m.istio {
		m.istioZtunnel.Set(float64(n))
	}
}
