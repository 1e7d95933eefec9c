// SPDX-License-Identifier: Apache-2.0

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
	return "validation: " + strings.Join(e.Failed, "; ") + " (" + afterFailure + ")"
}

// afterFailure is what to do where traffic is not captured.
const afterFailure = "where a CNI plugin such as istio-cni writes the rules, the pod came up before it did: delete the pod; else weir doctor says what is wrong"

// Validation is what there is to validate.
type Validation struct {
	Namespace   *netns.Namespace
	Config      modes.Config
	Environment modes.Environment
	Want        rules.State   // of the two
	Port        uint16        // that connections are opened to, if it is captured
	Timeout     time.Duration // in all
}

// Run proves that traffic is captured, in the ways that this process has: where it may
// read the rules it compares them, and looks for chains of others that take traffic first;
// and it opens connections that capture must bring to the proxy's listeners, whichever
// program's rules do. Where the rules are as wanted, a listener that is another process's
// gets none: to a proxy each is a real call. What it finds is logged. A
// [*ValidationError] is that traffic is not captured; another error, that it could not
// be tried.
func (v Validation) Run(ctx context.Context, log *slog.Logger) error {
	local, err := v.localAddresses(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, v.Timeout)
	defer cancel()
	same, taken, lost := v.compare(ctx, log)
	if len(taken) > 0 {
		return &ValidationError{taken}
	}
	by := modes.Caller{UID: rules.UID(os.Geteuid()), GID: rules.GID(os.Getegid())}
	for addr := range local {
		by.Local = append(by.Local, addr)
	}
	var probes []probe
	for _, e := range modes.Examples(v.Config, v.Environment, by, rules.Port(v.Port)) {
		probes = append(probes, probe{e, same, func(from netip.Addr) bool {
			name := local[from]
			if from.IsLoopback() {
				name = "lo"
			}
			return slices.ContainsFunc(v.Config.Interfaces.Exclude, func(word string) bool { return parse.Matches(parse.IfName(word), name) })
		}})
	}
	err = v.try(ctx, probes, log)
	var failed *ValidationError
	if same && errors.As(err, &failed) && len(failed.Failed) == 0 {
		return nil // the rules are as wanted, and no connection would tell more
	}
	if failed != nil {
		failed.Failed = append(lost, failed.Failed...)
	}
	return err
}

// compare compares the rules with those that weir would write, and says which chains of
// others take captured traffic elsewhere, and which may lose it, as far as this process may read rules. An apply that is
// under way is waited for, but not so long that no time is left to try.
func (v Validation) compare(ctx context.Context, log *slog.Logger) (same bool, taken, lost []string) {
	ctx, cancel := context.WithTimeout(ctx, v.Timeout/2)
	defer cancel()
	var verdict capture.Verdict
	c, err := capture.OfState(v.Namespace, v.Want, capture.Options{Conflicts: true})
	if err == nil {
		defer c.Close()
		verdict, err = c.Verify(ctx)
	}
	switch {
	case errors.Is(err, netns.ErrNotPermitted):
		log.Info("not compared: reading rules takes CAP_NET_ADMIN; a connection is tried")
		return false, nil, nil
	case err != nil:
		log.Warn("not compared; a connection is tried", "because", err)
		return false, nil, nil
	case verdict.Clean():
		log.Info("validated: the rules are as wanted")
	default:
		log.Info("the rules are not what weir would write; a connection is tried",
			"differences", len(verdict.Differences), "first", verdict.Differences[0].String())
		return false, nil, nil // who wrote others is not a conflict: connections tell whether they capture
	}
	for _, conflict := range verdict.Conflicts {
		switch {
		case conflict.Takes && !conflict.May && conflict.Table != "":
			taken = append(taken, conflict.String()+"; remedy: "+conflict.Remedy)
		case conflict.Kind.OfListeners(): // the proxy starts later
		default:
			log.Warn(conflict.String(), "remedy", conflict.Remedy)
			if !conflict.May {
				lost = append(lost, conflict.String())
			}
		}
	}
	return true, taken, lost
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
