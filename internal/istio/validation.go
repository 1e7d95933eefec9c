//go:build linux

package istio

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/weir-mesh/weir/capture"
	"github.com/weir-mesh/weir/internal/parse"
	"github.com/weir-mesh/weir/modes"
	"github.com/weir-mesh/weir/netns"
	"github.com/weir-mesh/weir/rules"
)

// ValidationError is that capture was found not to work, or that nothing could be validated.
type ValidationError struct {
	Failed []string // each a connection and what became of it; empty where nothing could be tried
}

func (e *ValidationError) Error() string {
	if len(e.Failed) == 0 {
		return "validation: nothing could be validated"
	}
	return "validation: " + strings.Join(e.Failed, "; ")
}

// Validation is what there is to validate.
type Validation struct {
	Namespace   *netns.Namespace
	Config      modes.Config
	Environment modes.Environment
	Want        rules.State   // of the two
	Port        uint16        // that connections are opened to, if it is captured
	Timeout     time.Duration // in all
}

// Run proves that traffic is captured, in the ways that this process has: by comparing
// the rules, where it may read them; else by connections that capture must bring to
// the proxy's listeners, whichever program's rules do. What it finds is logged. A
// [*ValidationError] is that traffic is not captured; another error, that it could not
// be tried.
func (v Validation) Run(ctx context.Context, log *slog.Logger) error {
	local, err := v.localAddresses(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, v.Timeout)
	defer cancel()
	if v.isAsWanted(ctx, log) {
		return nil
	}
	by := modes.Caller{UID: rules.UID(os.Geteuid()), GID: rules.GID(os.Getegid())}
	for addr := range local {
		by.Local = append(by.Local, addr)
	}
	var probes []probe
	for _, e := range modes.Examples(v.Config, v.Environment, by, rules.Port(v.Port)) {
		probes = append(probes, probe{e, func(from netip.Addr) bool {
			name := local[from]
			if from.IsLoopback() {
				name = "lo"
			}
			return slices.ContainsFunc(v.Config.Interfaces.Exclude, func(word string) bool { return parse.Matches(parse.IfName(word), name) })
		}})
	}
	return v.try(ctx, probes, log)
}

// isAsWanted compares the rules with those that weir would write. An apply that is
// under way is waited for, but not so long that no time is left to try.
func (v Validation) isAsWanted(ctx context.Context, log *slog.Logger) bool {
	ctx, cancel := context.WithTimeout(ctx, v.Timeout/2)
	defer cancel()
	var verdict capture.Verdict
	c, err := capture.OfState(v.Namespace, v.Want, capture.Options{})
	if err == nil {
		defer c.Close()
		verdict, err = c.Verify(ctx)
	}
	switch {
	case err == nil && verdict.Clean():
		log.Info("validated: the rules are as wanted")
		return true
	case errors.Is(err, netns.ErrNotPermitted):
		log.Info("not compared: reading rules takes CAP_NET_ADMIN; a connection is tried")
	case err != nil:
		log.Warn("not compared; a connection is tried", "because", err)
	default:
		log.Info("the rules are not what weir would write; a connection is tried",
			"differences", len(verdict.Differences), "first", verdict.Differences[0].String())
	}
	return false
}

// localAddresses are the namespace's own addresses but those of lo, with the interface
// of each.
func (v Validation) localAddresses(ctx context.Context) (map[netip.Addr]string, error) {
	addresses, err := v.Namespace.Addresses(ctx)
	if err != nil {
		return nil, err
	}
	names, err := v.Namespace.LinkNames(ctx)
	if err != nil {
		return nil, err
	}
	local := map[netip.Addr]string{}
	for _, a := range addresses {
		if name := names[a.Index]; name != "" && !a.Loopback() && !a.Addr().IsLinkLocalUnicast() {
			local[a.Addr()] = name
		}
	}
	return local, nil
}

// inside does something in the namespace, and says what it takes to enter it.
func (v Validation) inside(do func() error) error {
	err := v.Namespace.Inside(do)
	if errors.Is(err, netns.ErrNotEntered) {
		return netns.WithAdvice(err)
	}
	return err
}

// try tries the connections at once: each may take all of the time. The sockets of one
// are opened on the thread that runs it.
func (v Validation) try(ctx context.Context, probes []probe, log *slog.Logger) error {
	found := make([]error, len(probes))
	var group sync.WaitGroup
	for i, p := range probes {
		group.Go(func() { found[i] = v.inside(func() error { return p.run(ctx, log) }) })
	}
	group.Wait()
	validated, failed := 0, []string(nil)
	for i, p := range probes {
		var cannot cannotProbe
		switch err := found[i]; {
		case errors.As(err, &cannot):
			log.Warn("not validated: "+p.What, "because", cannot.Error())
		case err != nil:
			failed = append(failed, fmt.Sprintf("%s: %v", p.What, err))
		default:
			log.Info("validated: " + p.What + " connections are captured")
			validated++
		}
	}
	if len(failed) > 0 || validated == 0 {
		return &ValidationError{failed}
	}
	return nil
}
