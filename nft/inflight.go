// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nft

import (
	"context"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

const (
	membarrierGlobal = 1                     // MEMBARRIER_CMD_GLOBAL of linux/membarrier.h, since Linux 4.3
	inFlight         = 20 * time.Millisecond // how long a packet may take through a hook, where the kernel does not tell
)

// awaitInFlight waits until every packet that was on its way through a hook has left it. A
// packet goes through the chains that its hook had as it came, and to each as that is by then:
// where its thread is interrupted for as long as a replacement takes, it has passed one chain
// before that was there, and meets another when that has gone. The kernel has packets in a
// section of RCU meanwhile, and membarrier(2) waits for all that have begun; but not with one
// processor, nor with nohz_full.
func awaitInFlight(ctx context.Context) error {
	if runtime.NumCPU() > 1 {
		if _, _, err := unix.Syscall(unix.SYS_MEMBARRIER, membarrierGlobal, 0, 0); err == 0 {
			return nil
		}
	}
	return pause(ctx, inFlight)
}
