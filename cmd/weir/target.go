// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"github.com/urfave/cli/v2"
	"github.com/weir-mesh/weir/capture"
	nodepods "github.com/weir-mesh/weir/internal/pods"
	"github.com/weir-mesh/weir/internal/term"
	"github.com/weir-mesh/weir/netns"
)

func targetFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "netns", Usage: "work in the network namespace `NAME|PATH`", Category: categoryWhere},
		&cli.IntFlag{Name: "pid", DefaultText: "this one's", Usage: "work in the network namespace of process `N`", Category: categoryWhere},
		&cli.StringFlag{Name: "pod", Usage: "work in the network namespace of the pod with that `UID`, on this node", Category: categoryWhere},
	}
}

// targetPod is --pod where that names the namespace: to other commands it names
// what they change.
func targetPod(cc *cli.Context) (uid string, ok bool) {
	for _, f := range cc.Command.Flags {
		if s, isString := f.(*cli.StringFlag); isString && s.Name == "pod" && s.Category == categoryWhere {
			return cc.String("pod"), cc.IsSet("pod")
		}
	}
	return "", false
}

const categoryWhere = "where"

// targetName is the namespace as its flag names it; without one, the name of the host, which is a pod's own in the pod.
func targetName(cc *cli.Context) string {
	for _, flag := range []struct{ name, prefix string }{{"pod", "pod "}, {"pid", "process "}, {"netns", "network namespace "}} {
		if cc.IsSet(flag.name) {
			return flag.prefix + fmt.Sprint(cc.Value(flag.name))
		}
	}
	name, err := os.Hostname()
	if err != nil {
		return "this network namespace"
	}
	return name
}

// openTarget opens the namespace of --pid or --pod, else the one that --netns
// names.
func openTarget(cc *cli.Context, ns string) (*netns.Namespace, error) {
	pid := cc.Int("pid")
	pod, isPod := targetPod(cc)
	switch {
	case isPod && (cc.IsSet("netns") || cc.IsSet("pid")):
		return nil, usageError{errors.New("--pod excludes --netns and --pid")}
	case isPod:
		return podTarget(pod)
	case cc.IsSet("netns") && cc.IsSet("pid"):
		return nil, usageError{errors.New("--netns and --pid exclude each other")}
	case cc.IsSet("netns") && ns == "":
		return nil, usageError{errors.New("--netns: is empty (without the flag the present namespace is meant)")}
	case cc.IsSet("pid") && pid <= 0:
		return nil, usageError{fmt.Errorf("--pid: %d is not a process ID", pid)}
	case cc.IsSet("pid"):
		t, err := netns.OfProcess(pid)
		return t, targetError("--pid", err)
	case ns != "":
		return namedTarget("--netns", ns)
	}
	return netns.Current(), nil
}

// podTarget opens the namespace of a pod's oldest process.
func podTarget(uid string) (*netns.Namespace, error) {
	if !nodepods.IsUID(uid) {
		return nil, usageError{fmt.Errorf("--pod: %q is not a pod's UID (want such as 0a1b2c3d-0a1b-0a1b-0a1b-0a1b2c3d4e5f; that of a name: kubectl get pod NAME -o jsonpath={.metadata.uid})", term.Shorten(uid))}
	}
	p, err := nodepods.Find(uid)
	var missing *nodepods.NotFoundError
	var disagree *nodepods.DisagreementError
	switch {
	case errors.As(err, &missing), errors.As(err, &disagree):
		return nil, usageError{fmt.Errorf("--pod: %w", err)}
	case err != nil:
		return nil, targetError("--pod", err)
	}
	defer p.Close()
	t, err := p.Namespace()
	return t, targetError("--pod", err)
}

// namedTarget opens a namespace by its path or its name. The flag is for messages.
func namedTarget(flag, name string) (*netns.Namespace, error) {
	t, err := netns.Open(name)
	return t, namedTargetError(flag, name, err)
}

// namedTargetError is targetError for a namespace by its path or its name.
func namedTargetError(flag, name string, err error) error {
	var path *fs.PathError
	if errors.Is(err, syscall.ENAMETOOLONG) && errors.As(err, &path) {
		path.Path = term.Shorten(path.Path)
	}
	if errors.Is(err, netns.ErrNotExist) && netns.IsPattern(name) {
		err = fmt.Errorf("%w (only weir ambient pod takes patterns; elsewhere name one namespace, and run weir once for each)", err)
	}
	return targetError(flag, err)
}

// targetError is the error of opening what the command line names. That it is not
// there is wrong usage; that it may not be opened is not.
func targetError(flag string, err error) error {
	if errors.Is(err, netns.ErrNotExist) || errors.Is(err, netns.ErrNotNetns) {
		return usageError{fmt.Errorf("%s: %w", flag, err)}
	}
	if err != nil {
		return fmt.Errorf("%s: %w", flag, netns.WithAdvice(err))
	}
	return nil
}

// refuseHost keeps an example from reaching a whole machine; the effect says what the
// command would do to it.
func refuseHost(t *netns.Namespace, effect string) error {
	return wordsOfHost(capture.RefuseHost(t, effect))
}

// wordsOfHost adds to a refusal of the machine's own namespace which flags are meant.
func wordsOfHost(err error) error {
	if !errors.Is(err, capture.ErrHostNetwork) {
		return err
	}
	return usageError{fmt.Errorf("%w (use --netns or --pid for a container's, try it with unshare -n, or say --host-network if the whole machine is meant)", err)}
}
