// SPDX-License-Identifier: Apache-2.0

//go:build linux

package diagnose

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"strconv"

	"github.com/weir-mesh/weir/modes"
	"github.com/weir-mesh/weir/rules"
)

// idRange are users, both ends included.
type idRange struct{ lo, hi uint32 }

func (r idRange) String() string {
	if r.lo == r.hi {
		return strconv.FormatUint(uint64(r.lo), 10)
	}
	return fmt.Sprintf("%d-%d", r.lo, r.hi)
}

func (r idRange) has(id uint32) bool { return r.lo <= id && id <= r.hi }

// userMap are the users that exist here, none where all do, see
// user_namespaces(7).
func userMap() []idRange {
	text, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		return nil
	}
	var out []idRange
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		var inside, outside, length uint32
		if _, err := fmt.Sscan(lines.Text(), &inside, &outside, &length); err != nil || length == 0 {
			continue
		}
		if length == 1<<32-1 {
			return nil
		}
		out = append(out, idRange{inside, inside + length - 1})
	}
	return out
}

// proxyUIDs are the users that a table takes for the proxy's.
func proxyUIDs(t *rules.Table) []idRange {
	if t == nil {
		return nil
	}
	set := t.Set(modes.ProxyUIDs)
	if set == nil || len(set.Key) != 1 {
		return nil
	}
	var out []idRange
	for _, e := range set.Elements {
		out = append(out, idRange{uint32(e.Key[0].Lo.Uint64()), uint32(e.Key[0].Hi.Uint64())})
	}
	return out
}
