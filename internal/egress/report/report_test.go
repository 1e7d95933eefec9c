// SPDX-License-Identifier: Apache-2.0

//go:build linux

package report

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/weir-mesh/weir/internal/egress/watch"
)

func lines(t *testing.T, reports ...watch.Report) string {
	t.Helper()
	var b strings.Builder
	for _, r := range reports {
		if err := json.NewEncoder(&b).Encode(r); err != nil {
			t.Fatal(err)
		}
	}
	return b.String()
}

func pageOf(t *testing.T, text string) string {
	t.Helper()
	var b bytes.Buffer
	if err := Write(&b, strings.NewReader(text)); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

var began = time.Date(2026, 3, 1, 8, 0, 0, 0, time.UTC)

// day are reports in which some hosts move more and more.
func day(n int) (out []watch.Report) {
	hosts := []struct {
		host, by, owner string
		port            uint16
		rate            uint64
	}{
		{"oss-cn-shanghai.aliyuncs.com", "sni", "1000", 443, 84_000_000}, {"registry-1.docker.io", "sni", "0", 443, 21_000_000},
		{"telemetry.example.com", "http", "1000", 80, 9_000_000}, {"video.example.net", "quic", "1000", 443, 40_000_000},
		{"www.bank.example", "sni!", "33", 443, 3_000_000}, {"time.example.org", "dns", "105", 123, 10_000},
		{"203.0.113.77", "address", "1000", 8443, 700_000}, {"a-very-long-name-of-a-host-as-some-clouds-have-them.eu-central-1.compute.internal.example.com", "sni", "1000", 443, 6_000_000},
		{"api.github.com", "sni", "1000", 443, 1_500_000}, {"203.0.113.12 (3 names)", "sni", "1000", 443, 200_000},
	}
	for i := 1; i <= n; i++ {
		r := watch.Report{Time: began.Add(time.Duration(i) * time.Minute), Lost: 3}
		for k, h := range hosts {
			wave := uint64(i) * h.rate * uint64(1+(i/(10+k))%3) / 2
			row := watch.Row{Host: h.host, By: h.by, Owner: h.owner, Port: h.port, Proto: "tcp", Conns: uint64(i) * 7, Sent: wave / 50, Received: wave}
			if h.owner == "1000" {
				row.OwnerName = "app"
			}
			if strings.Contains(h.host, "names") {
				row.Names = []string{"one.example", "two.example", "three.example"}
			}
			r.Rows = append(r.Rows, row)
		}
		out = append(out, r)
	}
	return out
}

// TestPage has what was counted, and nothing that a browser would fetch or run. With
// WEIR_PAGE it is kept there, to look at.
func TestPage(t *testing.T) {
	page := pageOf(t, lines(t, day(240)...))
	for _, want := range []string{"oss-cn-shanghai.aliyuncs.com", "10</b> hosts", "sni!", "3 copies of packets were lost", "contradict names that clients gave: www.bank.example<", " in 4m<", "&lt;0.1 %", "2026-03-01 12:00:00 UTC", "3 others", "<rect", "two.example", "app"} {
		if !strings.Contains(page, want) {
			t.Errorf("%q is not in the page", want)
		}
	}
	if found := regexp.MustCompile(`(?i)<script|<link|<img|<iframe|\bon\w+=|https?:|@import|url\(|ZgotmplZ`).FindString(page); found != "" {
		t.Errorf("the page holds %q", found)
	}
	if bars := strings.Count(page, "<rect"); bars > maxBuckets*(maxColours+1) || len(page) > 200_000 {
		t.Errorf("%d bars, %d bytes", bars, len(page))
	}
	if path := os.Getenv("WEIR_PAGE"); path != "" {
		if err := os.WriteFile(path, []byte(page), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// TestNamesAreText: they are whatever a client wrote.
func TestNamesAreText(t *testing.T) {
	evil := "</title><script>alert(1)</script>\" onload=\"x' \u202e\x1b[2J{{.Notes}}"
	r := watch.Report{Time: began, Rows: []watch.Row{{Host: evil, By: evil, Owner: evil, OwnerName: evil, Proto: evil, Names: []string{evil}, Received: 1}}, Drift: []string{evil}, Wrong: []string{evil}}
	page := pageOf(t, lines(t, r, r))
	for _, bad := range []string{"<script", "\" onload", "\u202e", "\x1b"} {
		if strings.Contains(page, bad) {
			t.Errorf("the page holds %q", bad)
		}
	}
	if !strings.Contains(page, "&lt;script&gt;") {
		t.Error("the name is not there")
	}
}

func TestWhatIsNotAReport(t *testing.T) {
	for text, want := range map[string]string{
		"": errEmpty.Error(), "\n\n": errEmpty.Error(), "{}\n{": "line 2 is not a report", `"x"`: "line 1 is not a report",
		`{"time":"2026-03-01T08:00:01Z"}` + "\n" + `{"time":"2026-03-01T08:00:00Z"}`: "line 2 is older",
	} {
		if err := Write(io.Discard, strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	if err := Write(io.Discard, strings.NewReader("")); !errors.Is(err, errEmpty) {
		t.Error("it is not errEmpty")
	}
}

// TestBytesOverTime: however many reports there are, each byte stands in one bar.
func TestBytesOverTime(t *testing.T) {
	for _, n := range []int{1, 2, maxBuckets - 1, maxBuckets, maxBuckets + 1, 1000, 4321} {
		h := &history{each: 1, had: map[string]uint64{}}
		for i := 1; i <= n; i++ {
			h.add(watch.Report{Time: began.Add(time.Duration(i)), Rows: []watch.Row{{Host: fmt.Sprintf("a (%d names)", i), Names: []string{"b", "c"}, Sent: uint64(3 * i)}, {Host: "b", Received: uint64(i % 5)}}})
		}
		var a, b uint64
		for _, one := range h.buckets {
			a, b = a+one.bytes["a"], b+one.bytes["b"]
		}
		if a != uint64(3*n) || b != uint64(min(n, 4)) || len(h.buckets) > maxBuckets || !h.buckets[len(h.buckets)-1].until.Equal(h.last.Time) {
			t.Errorf("%d reports: %d and %d bytes in %d bars", n, a, b, len(h.buckets))
		}
	}
}

func FuzzWrite(f *testing.F) {
	f.Add(`{"time":"2026-03-01T08:00:00Z","rows":[{"host":"<a>","port":443,"sentBytes":18446744073709551615}]}`, `{}`)
	f.Fuzz(func(t *testing.T, a, b string) {
		var page bytes.Buffer
		if err := Write(&page, strings.NewReader(fmt.Sprintf("%s\n%s", a, b))); err != nil {
			return
		}
		if text := page.String(); strings.Contains(strings.ToLower(text), "<script") || strings.Contains(text, "ZgotmplZ") || strings.Contains(text, "NaN") {
			t.Errorf("the page of %q and %q", a, b)
		}
	})
}
