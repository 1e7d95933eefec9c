// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/urfave/cli/v2"
	"github.com/weir-mesh/weir/capture"
	"github.com/weir-mesh/weir/internal/egress/metrics"
	"github.com/weir-mesh/weir/internal/egress/watch"
	"github.com/weir-mesh/weir/internal/tty"
	"github.com/weir-mesh/weir/modes"
	"github.com/weir-mesh/weir/netns"
)

func watchCommand() *cli.Command {
	return &cli.Command{
		Name:  "watch",
		Usage: "a live table of what is called: host, port, user, evidence for the name, connections, bytes",
		Description: "Nothing is in the path of a packet: sets of nftables count, and copies of a few packets tell names.\n" +
			"The table inet weir-egress goes with the command, unless it was there before (weir apply --mode egress).",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "netns", Usage: "watch the network namespace `NAME|PATH`"},
			&cli.IntFlag{Name: "pid", DefaultText: "this one's", Usage: "watch the network namespace of process `N`"},
			&cli.BoolFlag{Name: "node", Usage: "watch what the namespace forwards for the pods of a node, by pod"},
			&cli.StringFlag{Name: "cni-cache", Value: "/var/lib/cni/results", Usage: "with --node: `FOLDER` of libcni's notes, which name pods"},
			&cli.StringFlag{Name: "by", DefaultText: "uid, with --node: pod", Usage: "whose calls are told apart: uid, cgroup or pod"},
			&cli.IntFlag{Name: "top", Value: 50, Usage: "at most so many rows, 0 for all"},
			&cli.DurationFlag{Name: "interval", Value: 2 * time.Second, Usage: "how often the table is printed"},
			&cli.BoolFlag{Name: "once", Usage: "print once, after an interval"},
			&cli.BoolFlag{Name: "json", Usage: "print JSON, an object a line"},
			&cli.StringFlag{Name: "metrics", Usage: "`ADDRESS` of /metrics for Prometheus, such as 127.0.0.1:15020; the table is printed besides"},
			&cli.StringFlag{Name: "metrics-names", Value: metrics.Istio, Usage: "the names of metrics: istio or otel"},
		},
		Action: func(cc *cli.Context) error { return runWatch(cc) },
	}
}

func runWatch(cc *cli.Context) error {
	if cc.Args().Present() {
		return usageError{fmt.Errorf("watch takes no argument, and got %q", cc.Args().First())}
	}
	if cc.Int("top") < 0 || cc.Duration("interval") < 100*time.Millisecond {
		return usageError{errors.New("--top: want 0 or more, and --interval: 100ms or more")}
	}
	ns, err := target(cc)
	if err != nil {
		return err
	}
	defer ns.Close()
	by := cc.String("by")
	if by == "" && cc.Bool("node") {
		by = modes.EgressByPod
	}
	config := modes.Config{Mode: modes.ModeEgress, Watch: modes.Watch{By: by}}
	if err := modes.Check(config); err != nil {
		return usageError{err}
	}
	if (by == modes.EgressByPod) != cc.Bool("node") {
		return usageError{errors.New("--by pod and --node belong together")}
	}
	users := map[string]string{}
	if by == "" || by == modes.EgressByUID {
		known, _ := ns.Users(cc.Context) // without them owners are numbers
		users = named(known)
	}
	told, err := exported(cc, users)
	if err != nil {
		return err
	}
	w, err := watch.Start(cc.Context, ns, config, capture.Options{}, podsOf(cc.String("cni-cache")))
	if err != nil {
		return err
	}
	err = follow(cc, w, told, printer{out: cc.App.Writer, top: cc.Int("top"), json: cc.Bool("json"), live: !cc.Bool("once") && tty.IsTerminal(os.Stdout), by: by, users: users})
	return errors.Join(err, w.Close(context.WithoutCancel(cc.Context)))
}

// follow prints until the context ends, or once.
func follow(cc *cli.Context, w *watch.Watch, told exporter, p printer) error {
	tick := time.NewTicker(cc.Duration("interval"))
	defer tick.Stop()
	for {
		select {
		case <-cc.Context.Done():
			return nil
		case err := <-told.failed:
			return err
		case <-tick.C:
		}
		report, err := w.Report(cc.Context)
		if err != nil {
			if cc.Context.Err() != nil {
				return nil
			}
			return err
		}
		told.take(report)
		if p.live {
			p.look, p.height = tty.LookOf(os.Stdout), terminalHeight(os.Stdout)
		}
		if err := p.print(report); err != nil || cc.Bool("once") {
			return err
		}
	}
}

func target(cc *cli.Context) (*netns.Namespace, error) {
	name, pid := cc.String("netns"), cc.Int("pid")
	switch {
	case cc.IsSet("netns") && cc.IsSet("pid"):
		return nil, usageError{errors.New("--netns and --pid exclude each other")}
	case cc.IsSet("pid") && pid <= 0:
		return nil, usageError{fmt.Errorf("--pid: %d is not a process ID", pid)}
	case cc.IsSet("pid"):
		return netns.OfProcess(pid)
	case cc.IsSet("netns"):
		return netns.Open(name)
	}
	return netns.Current(), nil
}

func named(users map[string]uint32) map[string]string {
	out := map[string]string{}
	for name, id := range users {
		number := fmt.Sprint(id)
		if had, taken := out[number]; !taken || name < had {
			out[number] = name
		}
	}
	return out
}

// asJSON is a report as one line.
func asJSON(r watch.Report) ([]byte, error) {
	line, err := json.Marshal(r)
	return append(line, '\n'), err
}
