// SPDX-License-Identifier: Apache-2.0

//go:build linux

package metrics

import (
	"cmp"

	"github.com/prometheus/client_golang/prometheus"
)

// podCollector counts pods by what the agent knows of them, when it is asked.
type podCollector struct{ State }

var (
	podsDesc     = prometheus.NewDesc("weir_pods", "Network namespaces of the node, by the mode of capture and its state.", []string{"mode", "state"}, nil)
	releasedDesc = prometheus.NewDesc("weir_released", "1 while weir-node release keeps every capture of the node out.", nil, nil)
)

// Describe is a prometheus.Collector's.
func (c *podCollector) Describe(to chan<- *prometheus.Desc) {
	to <- podsDesc
	to <- releasedDesc
}

// Collect is a prometheus.Collector's.
func (c *podCollector) Collect(to chan<- prometheus.Metric) {
	type group struct{ mode, state string }
	counts := map[group]int{}
	for _, p := range c.Pods() {
		counts[group{cmp.Or(p.Mode, "none"), p.State}]++
	}
	for g, n := range counts {
		to <- prometheus.MustNewConstMetric(podsDesc, prometheus.GaugeValue, float64(n), g.mode, g.state)
	}
	released := 0.0
	if c.Released() {
		released = 1
	}
	to <- prometheus.MustNewConstMetric(releasedDesc, prometheus.GaugeValue, released)
}
