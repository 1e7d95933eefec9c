// SPDX-License-Identifier: Apache-2.0

//go:build linux

package proxy

import "container/heap"

// flowHeap finds the flow that has carried nothing for the longest time. Datagrams do not touch it: a
// flow is put in its place when it seems to be the oldest, by the time that it then has.
type flowHeap struct{ flows flowSlice }

func (h *flowHeap) add(f *flow) {
	f.recorded = f.lastUsed.Load()
	heap.Push(&h.flows, f)
}

func (h *flowHeap) remove(f *flow) { heap.Remove(&h.flows, f.index) }

// top is the oldest flow, nil where there is none.
func (h *flowHeap) top() *flow {
	for len(h.flows) > 0 {
		f := h.flows[0]
		used := f.lastUsed.Load()
		if used == f.recorded {
			return f
		}
		f.recorded = used
		heap.Fix(&h.flows, 0)
	}
	return nil
}

// flowSlice is a heap.Interface.
type flowSlice []*flow

func (s flowSlice) Len() int           { return len(s) }
func (s flowSlice) Less(i, j int) bool { return s[i].recorded < s[j].recorded }

func (s flowSlice) Swap(i, j int) {
	s[i], s[j] = s[j], s[i]
	s[i].index, s[j].index = i, j
}

func (s *flowSlice) Push(x any) {
	f := x.(*flow)
	f.index = len(*s)
	*s = append(*s, f)
}

func (s *flowSlice) Pop() any {
	last := len(*s) - 1
	f := (*s)[last]
	(*s)[last] = nil
	*s = (*s)[:last]
	return f
}
