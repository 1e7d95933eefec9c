// SPDX-License-Identifier: Apache-2.0

// Package units writes numbers of bytes and rates for people.
package units

import (
	"fmt"
	"strings"
)

// Bytes is a number of bytes, such as 1.2 MB.
func Bytes(n uint64) string { return scaled(float64(n), "B", "kB", "MB", "GB", "TB") }

// Rate is bits a second, such as 310 Mbit/s, "" for none.
func Rate(bits uint64) string {
	if bits == 0 {
		return ""
	}
	return scaled(float64(bits), "bit/s", "kbit/s", "Mbit/s", "Gbit/s", "Tbit/s")
}

func scaled(n float64, units ...string) string {
	at := 0
	for n >= 999.5 && at < len(units)-1 {
		n, at = n/1000, at+1
	}
	if at == 0 || n >= 99.95 {
		return fmt.Sprintf("%.0f %s", n, units[at])
	}
	return strings.TrimSuffix(fmt.Sprintf("%.1f", n), ".0") + " " + units[at]
}
