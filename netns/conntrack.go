// SPDX-License-Identifier: Apache-2.0

//go:build linux

package netns

import (
	"bufio"
	"bytes"
	"os"
	"slices"
	"strconv"
	"strings"
)

// Tracked is how full the connection tracker's table is.
type Tracked struct {
	Known      bool // the tracker is there, and its numbers can be read
	Count, Max uint64
	Dropped    uint64 // connections that found no room since the namespace was made
}

// Tracked reads how many connections conntrack knows in the namespace. The error is
// ErrNotEntered.
func (n *Namespace) Tracked() (Tracked, error) {
	const count, most = "net/netfilter/nf_conntrack_count", "net/netfilter/nf_conntrack_max"
	values, err := n.Sysctls(count, most)
	if err != nil {
		return Tracked{}, err
	}
	var c Tracked
	var errCount, errMax error
	c.Count, errCount = strconv.ParseUint(values[count], 10, 64)
	c.Max, errMax = strconv.ParseUint(values[most], 10, 64)
	c.Known = errCount == nil && errMax == nil
	err = n.Inside(func() error {
		if text, err := os.ReadFile("/proc/thread-self/net/stat/nf_conntrack"); err == nil {
			c.Dropped = statistic(text, "drop")
		}
		return nil
	})
	return c, err
}

// statistic is the sum of a column over the processors' lines, which are
// hexadecimal.
func statistic(text []byte, column string) (sum uint64) {
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Scan()
	at := slices.Index(strings.Fields(lines.Text()), column)
	for lines.Scan() {
		if fields := strings.Fields(lines.Text()); at >= 0 && at < len(fields) {
			n, _ := strconv.ParseUint(fields[at], 16, 64)
			sum += n
		}
	}
	return sum
}
