// SPDX-License-Identifier: Apache-2.0

//go:build linux

package diagnose

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/weir-mesh/weir/internal/pods"
	"github.com/weir-mesh/weir/netns"
	"github.com/weir-mesh/weir/nft"
)

// What one namespace may take of list's time and memory. All are looked at for a
// moment first: those that take long, for whatever reason, come last.
const (
	firstLook    = 250 * time.Millisecond
	secondLook   = 2 * time.Second
	lookGrace    = 500 * time.Millisecond // for a call of the kernel's that goes on
	maxLookRead  = 32 << 20               // bytes of nftables
	looksAtOnce  = 8
	maxResidents = 8 // processes of a namespace that are tried, where the first ones end
)

// visit is a namespace to look at: by the processes in it, oldest first, or where there are none by its name.
type visit struct {
	processes []pods.Process
	name      string // in netns.Folder, "" for none
	inode     uint64
}

// Listing is the network namespaces that processes are in or that have a name, before any is looked at.
type Listing struct {
	Hidden int      // processes that may not be looked at
	Doubts []string // why processes in a cgroup that names a pod are not counted as its

	visits []visit
}

// NewListing finds the namespaces that processes are in, and those of netns.Folder. Its error is that there is
// no /proc, or that the folder cannot be read.
func NewListing() (*Listing, error) {
	all, err := pods.Processes()
	if err != nil {
		return nil, err
	}
	l := &Listing{}
	at := map[uint64]int{} // by namespace
	for _, p := range all {
		if p.Memory && p.Doubt != nil {
			l.Doubts = append(l.Doubts, fmt.Sprintf("process %v: %v", p, p.Doubt))
		}
		i, known := at[p.Netns]
		switch {
		case !p.Memory:
		case p.Netns == 0:
			l.Hidden++
		case !known:
			at[p.Netns] = len(l.visits)
			l.visits = append(l.visits, visit{processes: []pods.Process{p}, inode: p.Netns})
		case len(l.visits[i].processes) < maxResidents:
			l.visits[i].processes = append(l.visits[i].processes, p)
		}
	}
	named, err := netns.Named(netns.Folder)
	for _, n := range named {
		name := filepath.Base(n.Path)
		i, known := at[n.Inode]
		switch {
		case !known:
			at[n.Inode] = len(l.visits)
			l.visits = append(l.visits, visit{name: name, inode: n.Inode})
		case l.visits[i].name == "":
			l.visits[i].name = name
		}
	}
	return l, err
}

// Residents are what is known of each namespace before it is looked at.
func (l *Listing) Residents() []Residence {
	out := make([]Residence, len(l.visits))
	for i, v := range l.visits {
		out[i] = v.residence()
	}
	return out
}

// Each shows each namespace as soon as it is known. Its error is that of show, or the
// end of the context; the namespaces that were left then are shown too, with that for
// their reason.
func (l *Listing) Each(ctx context.Context, show func(Residence) error) error {
	runtime.GOMAXPROCS(runtime.NumCPU())
	var mu sync.Mutex
	var failed error
	shown := func(r Residence) {
		mu.Lock()
		defer mu.Unlock()
		if failed == nil {
			failed = show(r)
		}
	}
	visits := l.visits
	for _, budget := range []time.Duration{firstLook, secondLook} {
		var late []visit
		todo := make(chan visit)
		var workers sync.WaitGroup
		for range min(looksAtOnce, len(visits)) {
			workers.Go(func() {
				for v := range todo {
					r, result := v.within(ctx, budget)
					switch {
					case result == ended:
					case result == tooLate && budget < secondLook:
						mu.Lock()
						late = append(late, v)
						mu.Unlock()
					default:
						shown(r)
					}
				}
			})
		}
		for _, v := range visits {
			todo <- v
		}
		close(todo)
		workers.Wait()
		visits = late
	}
	return errors.Join(failed, ctx.Err())
}

// lookResult is how a look at a namespace ended.
type lookResult int

const (
	known   lookResult = iota
	tooLate            // it takes longer
	ended              // its processes did
)

// within looks at a namespace for as long as that. What goes on beyond ends with the
// program.
func (v visit) within(ctx context.Context, budget time.Duration) (Residence, lookResult) {
	if ctx.Err() != nil {
		return v.gaveUp(fmt.Errorf("not looked at: %w", context.Cause(ctx))), known
	}
	ctx, cancel := context.WithTimeout(ctx, budget)
	defer cancel()
	type looked struct {
		Residence
		err error
	}
	done := make(chan looked, 1)
	go func() {
		r, err := v.look(ctx)
		done <- looked{r, err}
	}()
	select {
	case l := <-done:
		switch {
		case errors.Is(l.err, netns.ErrNotExist):
			return l.Residence, ended
		case errors.Is(l.err, nft.ErrTooMuch):
			return v.gaveUp(fmt.Errorf("gave up: it holds more than %d MiB of rules", maxLookRead>>20)), known
		case l.err != nil && ctx.Err() != nil:
			return v.gaveUp(fmt.Errorf("gave up after %s: %w", budget, l.err)), tooLate
		case l.err != nil:
			return v.gaveUp(l.err), known
		}
		return l.Residence, known
	case <-time.After(budget + lookGrace):
		return v.gaveUp(fmt.Errorf("gave up after %s: the kernel does not answer", budget)), tooLate
	}
}

// look looks at the namespace by the first of its processes that is there still, else by its name.
func (v visit) look(ctx context.Context) (r Residence, err error) {
	for _, p := range v.processes {
		r = v.residence()
		r.PID, r.Process, r.Pod = p.PID, p.Name, p.Pod
		if err = r.look(ctx, func() (*netns.Namespace, error) { return netns.OfProcess(p.PID) }, v.inode); !errors.Is(err, netns.ErrNotExist) {
			return r, err
		}
	}
	if v.name == "" {
		return r, err
	}
	r = v.residence()
	r.PID, r.Process, r.Pod = 0, "", ""
	return r, r.look(ctx, func() (*netns.Namespace, error) { return netns.Open(v.name) }, v.inode)
}

// gaveUp is the row of a namespace that was not read.
func (v visit) gaveUp(err error) Residence {
	r := v.residence()
	r.Error = WithPermit(err).Error()
	return r
}

func (v visit) residence() Residence {
	r := Residence{Netns: v.name, Engines: []string{}, Tables: []Holder{}}
	if len(v.processes) > 0 {
		p := v.processes[0]
		r.PID, r.Process, r.Pod = p.PID, p.Name, p.Pod
	}
	return r
}
