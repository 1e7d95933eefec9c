// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nft

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/weir-mesh/weir/internal/escape"
	"github.com/weir-mesh/weir/internal/reserved"
	"github.com/weir-mesh/weir/rules"
	"golang.org/x/sys/unix"
)

// SweepTraces takes away the tables of traces that were killed, where the kernel
// did not: before Linux 5.12. It returns their names. A table that only has such a
// name stays.
func (c *Conn) SweepTraces(ctx context.Context, netns int) ([]string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	flags, err := c.tableFlags(ctx, unix.NFPROTO_INET)
	if errors.Is(err, errGeneration) {
		return nil, nil // another program changes tables at this moment: the next command sees to it
	}
	if err != nil {
		return nil, err
	}
	var swept []string
	for key, f := range flags {
		port, isTrace := strings.CutPrefix(key.name, reserved.TracePrefix)
		number, err := strconv.ParseUint(port, 16, 32)
		if !isTrace || err != nil || f&tableOwner != 0 || portTaken(uint32(number), netns) {
			continue
		}
		if table, err := c.tableAlone(ctx, key.name, everything()); err != nil || !ofTrace(table) {
			continue
		}
		b := &batch{}
		lower(b, &rules.Table{Name: key.name}).deleteTable()
		if err := c.commit(ctx, b, 0); err != nil && !errors.Is(err, unix.ENOENT) {
			return swept, fmt.Errorf("take table inet %s of a killed trace away: %w", escape.Text(key.name), err)
		}
		swept = append(swept, key.name)
	}
	slices.Sort(swept)
	return swept, nil
}

// ofTrace reports whether a table has the shape of a trace's.
func ofTrace(t *rules.Table) bool {
	return t != nil && len(t.Sets)+len(t.Unsupported()) == 0 && len(t.Chains) > 0 && !slices.ContainsFunc(t.Chains, func(c *rules.Chain) bool {
		return c.Base == nil || c.Base.Priority != math.MinInt32 || c.Name != traceChain(c.Base.Hook)
	})
}

// portTaken reports whether a socket has the netlink port.
func portTaken(port uint32, netns int) bool {
	c, err := dialPort(port, netns)
	if err == nil {
		c.Close()
	}
	return err != nil
}
