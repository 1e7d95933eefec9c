// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/urfave/cli/v2"
	"github.com/weir-mesh/weir/capture"
	"github.com/weir-mesh/weir/internal/clihelp"
	"github.com/weir-mesh/weir/internal/consul"
	"github.com/weir-mesh/weir/internal/kuma"
	"github.com/weir-mesh/weir/internal/linkerd"
	"github.com/weir-mesh/weir/internal/meshinit"
)

func linkerdInitCommand() *cli.Command {
	return meshInitCommand(linkerd.Parse, "Linkerd's proxy-init", "linkerd-init --incoming-proxy-port 4143 --outgoing-proxy-port 4140 --proxy-uid 2102")
}

func kumaInitCommand() *cli.Command {
	return meshInitCommand(kuma.Parse, "kumactl install transparent-proxy", "kuma-init --kuma-dp-user 5678 --redirect-dns")
}

func consulRedirectCommand() *cli.Command {
	return meshInitCommand(consul.Parse, "consul connect redirect-traffic", "consul-redirect -proxy-uid 5995 -proxy-inbound-port 20000")
}

type parseArguments func([]string, meshinit.Input) (*meshinit.Arguments, error)

// meshInitCommand is the init program of a mesh.
func meshInitCommand(parse parseArguments, program, example string) *cli.Command {
	return &cli.Command{
		Usage:           "take the arguments of " + program + ", and do what it does to every packet",
		Description:     "Example: weir " + example + "\n\nIts --help lists the flags; --print-config prints what they mean as weir's own configuration.",
		SkipFlagParsing: true,
		Action: func(cc *cli.Context) error {
			a, err := parse(cc.Args().Slice(), meshinit.Input{Variable: os.LookupEnv, Stdin: cc.App.Reader})
			if a.Help != "" {
				return clihelp.Write(cc.App.Writer, a.Help)
			}
			m := meshInit{a, newInitRun(cc, a.LogJSON, a.Level)}
			if err == nil {
				err = m.run(cc.Context)
			}
			return m.ended(err)
		},
	}
}

// meshInit is such a command at work.
type meshInit struct {
	*meshinit.Arguments
	initRun
}

func (m *meshInit) run(ctx context.Context) error {
	return m.within(ctx, "--netns", m.Namespace, defaultTimeout, m.work)
}

func (m *meshInit) work(ctx context.Context) error {
	resolved, err := m.Resolve(ctx, m.ns)
	remarks := append(m.Remarks, resolved.Warnings...)
	for _, r := range remarks {
		m.log.Warn(r)
	}
	if err != nil {
		return err
	}
	if m.PrintConfig {
		return printConfig(m.out, resolved.Config, remarks)
	}
	m.log.Info("arguments", "flags", m.Given)
	k, err := capture.New(m.ns, resolved.Config, capture.Options{HostNetwork: true, Environment: &resolved.Environment})
	if err != nil {
		return wrongState(err, m.Names.Problem)
	}
	defer k.Close()
	want, notes, err := k.State(ctx)
	if err != nil {
		return wrongState(err, m.Names.Problem)
	}
	for _, n := range notes {
		m.log.Info(m.Names.Note(n).String())
	}
	if m.DryRun {
		_, err := io.WriteString(m.out, want.String())
		return err
	}
	if err := m.apply(ctx, k, func() string { return want.Abridged(maxLogged) }); err != nil {
		return err
	}
	for _, s := range m.Sysctls {
		if err := m.ns.SetSysctl(s.Path, s.Value); err != nil {
			return fmt.Errorf("set %s to %s: %w", s.Path, s.Value, err)
		}
		m.log.Info("set", "sysctl", s.Path, "value", s.Value)
	}
	return nil
}
