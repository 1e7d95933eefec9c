// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/weir-mesh/weir/internal/scratch"
	"golang.org/x/sys/unix"
)

const (
	// probeTimeout is how long a probe waits to connect, and then for its answer. It is shorter than
	// the first retransmission of a SYN, so that a lost packet is lost.
	probeTimeout = 400 * time.Millisecond
	// probesAtOnce is how many probes work at a time: few, so that they do not make each other late.
	probesAtOnce = 8
	// probeSilence is after how long a probe counts as waiting for nothing, which counts as no work: the next
	// one need not wait with it. Timeouts then overlap, a few dozen at most.
	probeSilence = 100 * time.Millisecond
)

// RunProbes sends every probe once, from the pod or the peer, and then reads what marks and zones the
// pod's connection tracker holds for them. The result has a fate for each probe's ID. Source ports
// tell the probes apart there, so a pod is good for one run of a list. It stops at the first probe
// that could not be tried, and when ctx is done.
func RunProbes(ctx context.Context, pod *Pod, probes []scratch.Probe) (map[string]scratch.Fate, error) {
	if err := checkProbes(probes); err != nil {
		return nil, fmt.Errorf("run probes: %w", err)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)

	fates := make([]scratch.Fate, len(probes))
	atWork := make(chan struct{}, probesAtOnce)
	var underWay sync.WaitGroup
	for i, p := range probes {
		atWork <- struct{}{}
		if ctx.Err() != nil {
			break
		}
		underWay.Go(func() {
			giveWay := sync.OnceFunc(func() { <-atWork })
			defer giveWay()
			defer time.AfterFunc(probeSilence, giveWay).Stop()
			ns := pod.Namespace
			if p.Namespace == peerName {
				ns = pod.Peer
			}
			var err error
			if fates[i], err = p.Send(ctx, ns, probeTimeout); err != nil {
				cancel(err)
			}
		})
	}
	underWay.Wait()
	if ctx.Err() != nil {
		return nil, fmt.Errorf("run probes: %w", context.Cause(ctx))
	}

	flows, err := pod.Conntrack()
	if err != nil {
		return nil, fmt.Errorf("run probes: %w", err)
	}
	tracks := tracksBySender(flows)
	byID := make(map[string]scratch.Fate, len(probes))
	for i, p := range probes {
		fates[i].CT = strings.Join(tracks[sender{p.Proto, p.SPort}], ",")
		byID[p.ID] = fates[i]
	}
	return byID, nil
}

// A sender is what tells a probe's flows from another's.
type sender struct {
	proto string
	port  uint16
}

// tracksBySender lists what the flows of each sender are marked with: sorted, each once, and nothing
// for those that are not.
func tracksBySender(flows []scratch.Flow) map[sender][]string {
	tracks := make(map[sender][]string)
	for _, f := range flows {
		proto := map[uint8]string{unix.IPPROTO_TCP: "tcp", unix.IPPROTO_UDP: "udp"}[f.Proto]
		from, track := sender{proto, f.Src.Port()}, f.Track()
		if track != "" && !slices.Contains(tracks[from], track) {
			tracks[from] = append(tracks[from], track)
		}
	}
	for _, t := range tracks {
		slices.Sort(t)
	}
	return tracks
}
