// SPDX-License-Identifier: Apache-2.0

//go:build linux

package diagnose

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

func TestRedact(t *testing.T) {
	for in, want := range map[string]string{
		"to 10.1.2.3 by 10.1.2.3:80 and 10.1.2.4": "to addr-1 by addr-1:80 and addr-2",
		"ip daddr 127.0.0.1 and ::1 and ::6":      "ip daddr 127.0.0.1 and ::1 and ::6",
		"fd00:10:244:1::5/64, [2001:db8::7]:443.": "addr-1/64, [addr-2]:443.",
		"at 12:30:01 it was 0.0.0.0/0":            "at 12:30:01 it was 0.0.0.0/0",
	} {
		if got := string(redact([]byte(in))); got != want {
			t.Errorf("%q is redacted as %q, want %q", in, got, want)
		}
	}
}

// TestReportIsBounded: what is too long for a report is cut, and the report says so.
func TestReportIsBounded(t *testing.T) {
	var r Report
	for i := range maxReportLines {
		r.Tables = append(r.Tables, fmt.Sprint(i, strings.Repeat("x", 2000)))
		r.Routes = append(r.Routes, fmt.Sprint(i, strings.Repeat("y", 2000)))
	}
	text, err := r.text()
	if err != nil || len(text) >= maxReport {
		t.Fatalf("%d bytes: %v", len(text), err)
	}
	var got Report
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	if n := len(got.Tables); n == 0 || n == maxReportLines || len(got.Routes) != n || len(got.Missing) != 1 || !strings.Contains(got.Missing[0], fmt.Sprint("after the first ", n)) {
		t.Errorf("%d and %d lines are left, and missing is %q", n, len(got.Routes), got.Missing)
	}
	if len(r.Tables) != maxReportLines {
		t.Error("the report itself was cut")
	}
	short := Report{Tables: []string{"a"}}
	if text, err := short.text(); err != nil || !strings.Contains(string(text), `"a"`) || strings.Contains(string(text), "missing") {
		t.Errorf("a short report: %s, %v", text, err)
	}
}
