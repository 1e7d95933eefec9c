// SPDX-License-Identifier: Apache-2.0

package metrics

// Totals turn what is counted so far into what was counted since. A total that falls, as bytes find their name, is
// held: counters of Prometheus never fall.
type Totals struct {
	metrics *Metrics
	held    map[Series]Traffic
}

// NewTotals are totals of which nothing was counted yet.
func NewTotals(m *Metrics) *Totals { return &Totals{m, map[Series]Traffic{}} }

// Set counts the difference to what was held of each series, as many as metrics tell apart.
func (t *Totals) Set(now map[Series]Traffic) {
	for s, traffic := range now {
		had, known := t.held[s]
		if !known && len(t.held) >= 2*maxSeries {
			continue
		}
		delta := Traffic{since(traffic.Opened, had.Opened), since(traffic.Closed, had.Closed), since(traffic.Sent, had.Sent), since(traffic.Received, had.Received)}
		if known && delta == (Traffic{}) {
			continue
		}
		t.held[s] = Traffic{had.Opened + delta.Opened, had.Closed + delta.Closed, had.Sent + delta.Sent, had.Received + delta.Received}
		t.metrics.Moved(s, delta)
	}
}

func since(now, had uint64) uint64 { return max(now, had) - had }
