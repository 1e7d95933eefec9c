// SPDX-License-Identifier: Apache-2.0

// Command bare prints a line, as `weir version` does: what any Go program takes to
// start.
package main

import "os"

func main() {
	if _, err := os.Stdout.WriteString("bare\n"); err != nil {
		os.Exit(1)
	}
}
