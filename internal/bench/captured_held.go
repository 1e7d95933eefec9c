// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const heldConnections = 400 // that a process may have open, both ends

// heldRow is what an open connection holds of the connection tracker, of which the kernel
// tells: its extensions are not in the size of an entry.
type heldRow struct {
	Way       string    `json:"way"`
	Direction direction `json:"direction"`
	Entries   float64   `json:"entriesEach"`
	Bytes     float64   `json:"bytesEach"`
}

// held opens connections each way and counts what the tracker has of them. It is no measurement
// that varies: one round is enough.
func (b *bench) held(ctx context.Context, pods []*pod, d direction) error {
	size, err := entrySize()
	if err != nil {
		return err
	}
	for _, p := range pods {
		entries := 0
		_, err := onOneThread(ctx, p, d, func(listener int) (err error) {
			var open []int
			defer func() {
				for _, fd := range open {
					err = errors.Join(err, unix.Close(fd))
				}
			}()
			for range heldConnections {
				client, accepted, err := p.open(d, listener)
				if err != nil {
					return err
				}
				open = append(open, client, accepted)
			}
			flows, err := p.pod.Conntrack()
			entries = len(flows)
			return err
		})
		if err != nil {
			return fmt.Errorf("%s, %s: %w", p.way, d, err)
		}
		each := float64(entries) / heldConnections
		b.report.Held = append(b.report.Held, heldRow{p.way, d, each, each * size})
	}
	return nil
}

// entrySize is the size of an entry of the connection tracker, in bytes.
func entrySize() (float64, error) {
	const cache = "nf_conntrack "
	text, err := os.ReadFile("/proc/slabinfo")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); strings.HasPrefix(line, cache) && len(fields) > 3 {
			return strconv.ParseFloat(fields[3], 64)
		}
	}
	return 0, errors.New("/proc/slabinfo has no nf_conntrack: the kernel shares its cache with others of that size")
}
