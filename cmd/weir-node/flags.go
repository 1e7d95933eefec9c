//go:build linux

package main

import (
	"time"

	"github.com/urfave/cli/v2"
	"github.com/weir-mesh/weir/internal/agent"
	"github.com/weir-mesh/weir/internal/node/inventory"
	"github.com/weir-mesh/weir/netns"
)

func sourceFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "cni-cache", Value: "/var/lib/cni/results", Usage: "`FOLDER` of libcni's notes of what it attached; \"\" for none"},
		&cli.StringFlag{Name: "netns-dir", Value: netns.Folder, Usage: "`FOLDER` of network namespaces by name; \"\" for none"},
		&cli.BoolFlag{Name: "proc", Usage: "look for namespaces in /proc too, which takes the machine's process IDs and CAP_SYS_PTRACE"},
		&cli.StringFlag{Name: "state-dir", Value: "/var/lib/weir", Usage: "`FOLDER` for what must outlive a reboot of the node: a release"},
	}
}

// sources are the sources that flags name, those that know most first.
func sources(cc *cli.Context) (out []inventory.Source) {
	if folder := cc.String("cni-cache"); folder != "" {
		out = append(out, inventory.Cache(folder))
	}
	if folder := cc.String("netns-dir"); folder != "" {
		out = append(out, inventory.Named(folder))
	}
	if cc.Bool("proc") {
		out = append(out, inventory.Processes{})
	}
	return out
}

func runFlags() []cli.Flag {
	return append(append(sourceFlags(), ambientFlags()...),
		&cli.StringFlag{Name: "settings", Usage: "`FILE` of the keys of the plugin's entry, in JSON: the agent decides about pods by the same"},
		&cli.StringFlag{Name: "socket", Value: agent.DefaultSocket, Usage: "unix `SOCKET` on which the plugin and weir list ask; its folder must exist"},
		&cli.StringFlag{Name: "health", Value: ":8000", Usage: "`ADDRESS` of /healthz and /readyz; \"\" for none"},
		&cli.StringFlag{Name: "metrics", Value: ":15014", Usage: "`ADDRESS` of /metrics; \"\" for none"},
		&cli.BoolFlag{Name: "istio-metrics", Usage: "have the metrics of Istio's agent under its names too"},
		&cli.DurationFlag{Name: "sweep", Value: 5 * time.Minute, Usage: "look at every namespace each `TIME`, whatever was heard"},
		&cli.StringFlag{Name: "log-level", Value: "info", Usage: "`LEVEL`: debug, info, warn or error"},
	)
}
