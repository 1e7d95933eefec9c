// SPDX-License-Identifier: Apache-2.0

//go:build linux

package capture

import (
	"context"
	"sync"

	"github.com/weir-mesh/weir/netns"
)

const namespacesAtOnce = 8 // each holds up to ten descriptors

// ForEach opens network namespaces by their names or paths, as [netns.Open] takes them,
// and works in each, several at once; what goes wrong in one touches no other. Work is
// called once for each name, from several goroutines; err is why the namespace could not
// be opened, or that the context ended before. The namespace is closed when work returns.
// ForEach returns when all have.
func ForEach(ctx context.Context, names []string, work func(ctx context.Context, name string, ns *netns.Namespace, err error)) {
	todo := make(chan string)
	var workers sync.WaitGroup
	for range min(namespacesAtOnce, len(names)) {
		workers.Go(func() {
			for name := range todo {
				one(ctx, name, work)
			}
		})
	}
	for _, name := range names {
		todo <- name
	}
	close(todo)
	workers.Wait()
}

func one(ctx context.Context, name string, work func(context.Context, string, *netns.Namespace, error)) {
	if err := ctx.Err(); err != nil {
		work(ctx, name, nil, err)
		return
	}
	ns, err := netns.Open(name)
	if err == nil {
		defer ns.Close()
	}
	work(ctx, name, ns, err)
}
