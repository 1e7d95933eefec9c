// SPDX-License-Identifier: Apache-2.0

package units

import "testing"

func TestUnits(t *testing.T) {
	for n, want := range map[uint64]string{0: "0 B", 999: "999 B", 1000: "1 kB", 1250: "1.2 kB", 99_949: "99.9 kB", 99_950: "100 kB", 999_499: "999 kB", 999_500: "1 MB", 84_100_000_000: "84.1 GB", 5_000_000_000_000_000: "5000 TB"} {
		if got := Bytes(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
	if Rate(0) != "" || Rate(310_000_000) != "310 Mbit/s" {
		t.Errorf("rates: %q, %q", Rate(0), Rate(310_000_000))
	}
}
