// SPDX-License-Identifier: Apache-2.0

//go:build linux

package scratch

import (
	"fmt"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
)

// Usage is what this process holds.
type Usage struct {
	RSS         int // megabytes
	Descriptors int
}

func (u Usage) String() string {
	return fmt.Sprintf("RSS %d MB, %d descriptors", u.RSS, u.Descriptors)
}

// UsageNow is what this process holds once its garbage is given back.
func UsageNow() (Usage, error) {
	debug.FreeOSMemory()
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return Usage{}, err
	}
	fields := strings.Fields(string(text))
	if len(fields) < 2 {
		return Usage{}, fmt.Errorf("/proc/self/statm: %q", text)
	}
	pages, err := strconv.Atoi(fields[1])
	if err != nil {
		return Usage{}, fmt.Errorf("/proc/self/statm: %w", err)
	}
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return Usage{}, err
	}
	return Usage{pages * os.Getpagesize() / 1e6, len(open)}, nil
}

// Grown says how a process that holds now what it held then, give or take what a runtime keeps, has grown; nil where it
// has not.
func (now Usage) Grown(then Usage) error {
	const megabytes, descriptors = 16, 8
	if now.RSS > then.RSS+then.RSS/5+megabytes || now.Descriptors > then.Descriptors+descriptors {
		return fmt.Errorf("it holds %s, and held %s", now, then)
	}
	return nil
}
