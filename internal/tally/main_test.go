// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"
)

// stream is what go test -json writes of two packages, the first of which fails, and of
// one that does not build.
const stream = `{"Action":"start","Package":"a"}
{"Action":"output","Package":"a","Test":"TestGood","Output":"=== RUN   TestGood\n"}
{"Action":"output","Package":"a","Test":"TestBad","Output":"    a_test.go:7: bad\n"}
{"Action":"output","Package":"a","Test":"TestGood","Output":"    a_test.go:3: fine\n"}
{"Action":"pass","Package":"a","Test":"TestGood"}
{"Action":"output","Package":"a","Test":"TestBad","Output":"--- FAIL: TestBad (0.00s)\n"}
{"Action":"fail","Package":"a","Test":"TestBad"}
{"Action":"output","Package":"a","Test":"TestAbsent/x","Output":"    --- SKIP: TestAbsent/x (0.00s)\n"}
{"Action":"skip","Package":"a","Test":"TestAbsent/x"}
{"Action":"output","Package":"a","Test":"TestKilled","Output":"panic: killed\n"}
{"Action":"output","Package":"a","Output":"FAIL\ta\t0.1s\n"}
{"Action":"fail","Package":"a"}
{"Action":"output","Package":"b","Output":"?   \tb\t[no test files]\n"}
{"Action":"skip","Package":"b"}
{"ImportPath":"c","Action":"build-output","Output":"c.go:1: no\n"}
{"ImportPath":"c","Action":"build-fail"}
{"Action":"output","Package":"c","Output":"FAIL\tc [build failed]\n"}
{"Action":"fail","Package":"c","FailedBuild":"c"}
not an event
`

func TestTally(t *testing.T) {
	for _, tt := range []struct {
		why     string
		verbose bool
		want    string
	}{
		{"quiet", false, "    a_test.go:7: bad\n--- FAIL: TestBad (0.00s)\n    --- SKIP: TestAbsent/x (0.00s)\nFAIL\ta\t0.1s\npanic: killed\n" +
			"?   \tb\t[no test files]\nc.go:1: no\nFAIL\tc [build failed]\nnot an event\n"},
		{"verbose", true, "=== RUN   TestGood\n    a_test.go:3: fine\n    a_test.go:7: bad\n--- FAIL: TestBad (0.00s)\n    --- SKIP: TestAbsent/x (0.00s)\nFAIL\ta\t0.1s\npanic: killed\n" +
			"?   \tb\t[no test files]\nc.go:1: no\nFAIL\tc [build failed]\nnot an event\n"},
	} {
		t.Run(tt.why, func(t *testing.T) {
			var out strings.Builder
			c := &tally{out: &out, verbose: tt.verbose, packages: map[string]bool{}}
			if err := c.read(strings.NewReader(stream)); err != nil {
				t.Fatal(err)
			}
			if out.String() != tt.want {
				t.Errorf("printed\n%s\nwant\n%s", &out, tt.want)
			}
			if got, want := c.String(), "2 packages, 3 tests, 1 skipped, 1 FAILED"; got != want {
				t.Errorf("counted %q, want %q", got, want)
			}
		})
	}
}
