// SPDX-License-Identifier: Apache-2.0

//go:build linux

package report

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/weir-mesh/weir/internal/egress/watch"
)

const (
	maxLine    = 64 << 20 // bytes of a report
	maxBuckets = 96       // of time: more are joined by twos
)

// errEmpty is that no report is there.
var errEmpty = errors.New("no report is there: write some with weir-egress watch --json --top 0")

// bucket is what hosts moved in a while.
type bucket struct {
	until time.Time
	bytes map[string]uint64
}

// history is what reports tell, from the first to the last.
type history struct {
	first, last watch.Report
	reports     int
	buckets     []bucket
	each        int // reports a bucket
	had         map[string]uint64
}

// read reads reports, an object of JSON a line.
func read(in io.Reader) (*history, error) {
	h := &history{each: 1, had: map[string]uint64{}}
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, maxLine)
	for number := 1; lines.Scan(); number++ {
		if len(lines.Bytes()) == 0 {
			continue
		}
		var r watch.Report
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			return nil, fmt.Errorf("line %d is not a report of weir-egress watch --json: %w", number, err)
		}
		if h.reports > 0 && r.Time.Before(h.last.Time) {
			return nil, fmt.Errorf("line %d is older than the line before: is it another watch's?", number)
		}
		h.add(r)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read reports: %w", err)
	}
	if h.reports == 0 {
		return nil, errEmpty
	}
	return h, nil
}

// add takes in what a report has more than the last. What a host has less, since bytes have found another name, is
// no traffic.
func (h *history) add(r watch.Report) {
	now := map[string]uint64{}
	for _, row := range r.Rows {
		now[row.Name()] += row.Sent + row.Received
	}
	moved := map[string]uint64{}
	for host, total := range now {
		if total > h.had[host] {
			moved[host] = total - h.had[host]
		}
		h.had[host] = max(h.had[host], total)
	}
	if h.reports == 0 {
		h.first = r
	}
	h.last = r
	if h.reports%h.each == 0 {
		h.buckets = append(h.buckets, bucket{bytes: map[string]uint64{}})
	}
	h.reports++
	last := &h.buckets[len(h.buckets)-1]
	last.until = r.Time
	for host, n := range moved {
		last.bytes[host] += n
	}
	if len(h.buckets) == maxBuckets && h.reports%h.each == 0 {
		h.halve()
	}
}

// halve joins buckets by twos.
func (h *history) halve() {
	for i := range len(h.buckets) / 2 {
		a, b := h.buckets[2*i], h.buckets[2*i+1]
		for host, n := range b.bytes {
			a.bytes[host] += n
		}
		h.buckets[i] = bucket{b.until, a.bytes}
	}
	h.buckets, h.each = h.buckets[:len(h.buckets)/2], 2*h.each
}

// most are the keys with the largest values, the largest first.
func most(of map[string]uint64, n int) []string {
	keys := slices.SortedFunc(maps.Keys(of), func(a, b string) int { return cmp.Or(cmp.Compare(of[b], of[a]), cmp.Compare(a, b)) })
	return keys[:min(n, len(keys))]
}
