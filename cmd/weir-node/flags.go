// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"slices"
	"time"

	"github.com/urfave/cli/v2"
	"github.com/weir-mesh/weir/internal/agent"
	"github.com/weir-mesh/weir/internal/cni/install"
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

func installFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringSliceFlag{Name: "cni-bin-dir", Usage: "the runtime's `FOLDERS` of plugins, of which the first that can be written is taken"},
		&cli.StringFlag{Name: "cni-conf-dir", Usage: "the runtime's `FOLDER` of network lists; without it no plugin is installed"},
	}
}

func runFlags() []cli.Flag {
	return append(slices.Concat(sourceFlags(), installFlags(), ambientFlags()),
		&cli.StringFlag{Name: "conflist-mode", Value: install.Chained, Usage: "chained: into the primary plugin's list; own: into a list of weir's own, which sorts first (`MODE`)"},
		&cli.StringFlag{Name: "program", Usage: "the `FILE` to install as plugin; by default weir-cni beside this program"},
		&cli.StringFlag{Name: "nri-socket", Usage: "`SOCKET` of a container runtime that tells of pods before their containers run, such as /run/nri/nri.sock"},
		&cli.StringFlag{Name: "cgroup-dir", Usage: "with --nri-socket, `FOLDER` of the machine's cgroups v2, in which sockets of proxies that cannot mark them are marked; by default where they are mounted"},
		&cli.StringFlag{Name: "node-name", EnvVars: []string{"NODE_NAME"}, Usage: "this node's `NAME` in the cluster"},
		&cli.StringFlag{Name: "kubeconfig", Usage: "`FILE` by which the API server is asked; by default the pod's own service account, where it has one"},
		&cli.StringFlag{Name: "repair", Value: repairHeal, Usage: "`MODE` for a pod that is found without its capture at its first look: heal, delete (the pod) or label (it cni.istio.io/uninitialized)"},
		&cli.StringFlag{Name: "settings", Usage: "`FILE` of the keys of the plugin's entry, in JSON: the agent decides about pods by the same"},
		&cli.StringFlag{Name: "socket", Value: agent.DefaultSocket, Usage: "unix `SOCKET` on which the plugin and weir list ask; its folder must exist"},
		&cli.StringFlag{Name: "health", Value: ":8000", Usage: "`ADDRESS` of /healthz and /readyz; \"\" for none"},
		&cli.StringFlag{Name: "metrics", Value: ":15014", Usage: "`ADDRESS` of /metrics; \"\" for none"},
		&cli.BoolFlag{Name: "istio-metrics", Usage: "have the metrics of Istio's agent under its names too"},
		&cli.DurationFlag{Name: "sweep", Value: 5 * time.Minute, Usage: "look at every namespace each `TIME`, whatever was heard"},
		&cli.StringFlag{Name: "log-level", Value: "info", Usage: "`LEVEL`: debug, info, warn or error"},
	)
}
