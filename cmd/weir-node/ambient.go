// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"log/slog"

	"github.com/urfave/cli/v2"
	"github.com/weir-mesh/weir/internal/node"
	"github.com/weir-mesh/weir/internal/node/ambient"
	"github.com/weir-mesh/weir/internal/version"
	"github.com/weir-mesh/weir/internal/zds"
	"github.com/weir-mesh/weir/netns"
)

func ambientFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "ambient", Usage: "serve pods of the ambient mesh: rules in them, the node's own table, and ztunnel"},
		&cli.BoolFlag{Name: "ambient-dns", Value: true, Usage: "capture their DNS queries, unless annotation ambient.istio.io/dns-capture says otherwise"},
		&cli.BoolFlag{Name: "ambient-ipv6", Value: true, Usage: "capture IPv6 in those that have it"},
		&cli.StringFlag{Name: "ztunnel-socket", Value: zds.DefaultSocket, Usage: "unix `SOCKET` to which ztunnel connects; its folder must exist"},
		&cli.StringFlag{Name: "enrolled", Value: "/var/lib/weir/enrolled.json", Usage: "`FILE` of what is in the ambient mesh, for the plugin where the agent does not answer"},
	}
}

// annotator writes an annotation of a pod, as an API server's client does.
type annotator interface {
	Annotate(ctx context.Context, namespace, name, uid, annotation, value string) error
}

// newAmbient is the ambient side that flags ask for; nil where they do not.
func newAmbient(cc *cli.Context, cluster annotator, proxies func(int), log *slog.Logger) *node.Ambient {
	if !cc.Bool("ambient") {
		return nil
	}
	o := ambient.Options{
		Settings: ambient.Settings{DNS: cc.Bool("ambient-dns"), IPv6: cc.Bool("ambient-ipv6")},
		Host:     netns.Current(), Proxy: zds.New(zds.Options{Log: log, Changed: proxies}), Version: version.String(), Log: log,
	}
	if cluster != nil {
		o.Annotate = func(ctx context.Context, p ambient.Pod, value string) error {
			return cluster.Annotate(ctx, p.Namespace, p.Name, p.UID, ambient.Redirection, value)
		}
	}
	return node.NewAmbient(o, cc.String("ztunnel-socket"), cc.String("enrolled"))
}
