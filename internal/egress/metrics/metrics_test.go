// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func scrape(t *testing.T, m *Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != 200 {
		t.Fatalf("a scrape: %d %s", w.Code, w.Body)
	}
	return w.Body.String()
}

// TestNames are those that dashboards ask for.
func TestNames(t *testing.T) {
	for names, want := range map[string][]string{
		Istio: {
			`istio_tcp_sent_bytes_total{reporter="source",source_app="a",source_workload="a",source_workload_namespace="shop",destination_app="unknown",destination_service="oss.example",destination_service_name="oss.example",destination_service_namespace="unknown",destination_cluster="unknown",request_protocol="tcp",response_flags="-",name_source="sni"} 4`,
			`istio_tcp_received_bytes_total{`, `istio_tcp_connections_opened_total{`, `istio_tcp_connections_closed_total{`,
			`istio_request_duration_milliseconds_count{reporter="source",source_app="app",source_workload="app",source_workload_namespace="unknown",destination_app="unknown",destination_service="oss.example",destination_service_name="oss.example",destination_service_namespace="unknown",destination_cluster="unknown",request_protocol="http",response_flags="-",name_source="vip",response_code="404",method="GET"} 1`,
			`istio_requests_total{`, `destination_service="ba?d\\\"\n{}.example\\",`, `response_code="502"`, `method="_OTHER"`,
		},
		OTel: {
			`weir_egress_io_receive_bytes_total{service_name="shop/a",server_address="oss.example",server_port="443",network_transport="tcp",weir_name_source="sni"} 4`,
			`weir_egress_io_transmit_bytes_total{`,
			`http_client_request_duration_seconds_sum{service_name="app",server_address="oss.example",server_port="80",network_transport="tcp",weir_name_source="vip",http_response_status_code="404",http_request_method="GET"} 0.25`,
		},
	} {
		m, err := New("v0", names)
		if err != nil {
			t.Fatal(err)
		}
		m.Moved(Series{"shop/a", "oss.example", 443, "tcp", "sni"}, Traffic{1, 2, 3, 4})
		m.Requested(Series{"app", "oss.example", 80, "http", "vip"}, "GET", 404, 250*time.Millisecond)
		m.Requested(Series{"app", "ba\xffd\\\"\n{}.example\\", 80, "http", "vip"}, "BREW", 502, time.Second)
		text := scrape(t, m)
		for _, w := range want {
			if !strings.Contains(text, w) {
				t.Errorf("%s: %s is not there:\n%s", names, w, text)
			}
		}
	}
	if _, err := New("v0", "statsd"); err == nil {
		t.Error("names that are unknown are no error")
	}
}

// TestTotalsNeverFall: what was counted for an address may move to a name.
func TestTotalsNeverFall(t *testing.T) {
	m, err := New("v0", OTel)
	if err != nil {
		t.Fatal(err)
	}
	totals, s := NewTotals(m), Series{"0", "203.0.113.2 (2 names)", 443, "tcp", "sni"}
	for _, tt := range []struct{ now, want uint64 }{{100, 100}, {40, 100}, {90, 100}, {130, 130}} {
		totals.Set(map[Series]Traffic{s: {Received: tt.now}})
		if text, want := scrape(t, m), fmt.Sprintf(`weir_name_source="sni"} %d`, tt.want); !strings.Contains(text, want) {
			t.Errorf("after %d it is not %d:\n%s", tt.now, tt.want, text)
		}
	}
}

// TestSeriesAreBounded: hosts are the client's to make up.
func TestSeriesAreBounded(t *testing.T) {
	m, err := New("v0", Istio)
	if err != nil {
		t.Fatal(err)
	}
	totals := NewTotals(m)
	for i := range 5 * maxSeries {
		totals.Set(map[Series]Traffic{{Host: fmt.Sprintf("%d.example", i), Proto: "tcp"}: {Sent: 1}})
	}
	text := scrape(t, m)
	if n := strings.Count(text, "\nistio_tcp_received_bytes_total{"); n != maxSeries+1 {
		t.Errorf("%d series", n)
	}
	if !strings.Contains(text, `destination_service="other"`) || len(totals.held) > 2*maxSeries {
		t.Errorf("%d totals are held", len(totals.held))
	}
}
