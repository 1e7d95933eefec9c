// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"
	"github.com/weir-mesh/weir/capture"
	"github.com/weir-mesh/weir/internal/escape"
	"github.com/weir-mesh/weir/internal/input"
	"github.com/weir-mesh/weir/internal/podlist"
)

// podsCommand changes and lists the pods whose probes are exempt from capture:
// run-time state, which no apply touches.
func podsCommand() *cli.Command {
	verb := func(c *cli.Command, do func(*command, context.Context, *capture.Capture) error) *cli.Command {
		c.Flags = withCommon(append(c.Flags, tableFlag())...)
		c.Action = func(cc *cli.Context) error {
			if err := checkTable(cc.String("table")); err != nil {
				return err
			}
			return inNamespace(cc, func(ctx context.Context, cmd *command) error {
				k, err := cmd.captureOfTable(cc.String("table"), capture.Options{})
				if err != nil {
					return err
				}
				defer k.Close()
				return do(cmd, ctx, k)
			})
		}
		return c
	}
	uid := &cli.StringFlag{Name: "pod", Usage: "the pod's `UID`"}
	return &cli.Command{
		Name:        "pods",
		Usage:       "the pods whose probes keep away from the proxy",
		Description: "Example: weir ambient host pods add --pod 1f0c... 10.244.1.7 fd00:10:244:1::7",
		Subcommands: []*cli.Command{
			verb(&cli.Command{Name: "add", Usage: "add a pod's addresses; from a pod that had one before it is taken", ArgsUsage: "IP...", Flags: []cli.Flag{uid}}, (*command).addPod),
			verb(&cli.Command{Name: "delete", Usage: "delete addresses that are the pod's still", ArgsUsage: "IP...", Flags: []cli.Flag{uid}}, (*command).deletePod),
			verb(&cli.Command{Name: "sync", Usage: "have exactly the addresses of a file, all in one step", Flags: []cli.Flag{
				&cli.StringFlag{Name: "file", Aliases: []string{"f"}, Usage: "read lines UID IP... from `FILE`, - for standard input"}}}, (*command).syncPods),
			verb(&cli.Command{Name: "list", Usage: "print lines UID IP..., as sync reads them"}, (*command).listPods),
		},
	}
}

// onePod is the pod that a command line names.
func onePod(cc *cli.Context) (capture.Pods, error) {
	uid, p := cc.String("pod"), capture.Pods{}
	var problems []error
	if !cc.IsSet("pod") {
		problems = append(problems, errors.New("--pod: the pod's UID is missing"))
	} else if err := capture.CheckPodUID(uid); err != nil {
		problems = append(problems, fmt.Errorf("--pod: %w", err))
	}
	if !cc.Args().Present() {
		problems = append(problems, errors.New("no address is given (want IP...)"))
	}
	for _, word := range cc.Args().Slice() {
		a, err := podlist.ParseAddress(word)
		if err != nil {
			problems = append(problems, err)
		}
		p[a] = uid
	}
	if err := errors.Join(problems...); err != nil {
		return nil, usageError{err}
	}
	return p, nil
}

func (cmd *command) addPod(ctx context.Context, k *capture.Capture) error {
	pods, err := onePod(cmd.cc)
	if err != nil {
		return err
	}
	change, err := k.AddPods(ctx, pods)
	return cmd.reportPods(change, err)
}

func (cmd *command) deletePod(ctx context.Context, k *capture.Capture) error {
	pods, err := onePod(cmd.cc)
	if err != nil {
		return err
	}
	change, err := k.DeletePods(ctx, pods)
	return cmd.reportPods(change, err)
}

func (cmd *command) syncPods(ctx context.Context, k *capture.Capture) error {
	name := cmd.cc.String("file")
	if name == "" {
		return usageError{errors.New("--file is missing (want -f FILE, or -f - for standard input)")}
	}
	data, err := input.Read(ctx, name, cmd.in, podlist.MaxSize)
	if err != nil {
		return usageError{fmt.Errorf("--file: %w", err)}
	}
	if len(data) > podlist.MaxSize {
		return usageError{fmt.Errorf("--file: %s is longer than %d MiB", escape.Text(name), podlist.MaxSize>>20)}
	}
	want, err := podlist.Parse(name, string(data))
	if err != nil {
		return usageError{err}
	}
	change, err := k.SetPods(ctx, want)
	return cmd.reportPods(change, err)
}

func (cmd *command) reportPods(c capture.PodChange, err error) error {
	if err != nil {
		return err
	}
	if cmd.cc.Bool("json") {
		return writeJSON(cmd.out, map[string]int{"added": c.Added, "moved": c.Moved, "deleted": c.Deleted})
	}
	_, err = fmt.Fprintf(cmd.out, "probes of inet %s: %d added, %d moved, %d deleted\n", cmd.table, c.Added, c.Moved, c.Deleted)
	return err
}

func (cmd *command) listPods(ctx context.Context, k *capture.Capture) error {
	pods, err := k.Pods(ctx)
	if err != nil {
		return err
	}
	list := podlist.Of(pods)
	if cmd.cc.Bool("json") {
		return writeJSON(cmd.out, map[string]any{"pods": list})
	}
	for _, p := range list {
		if _, err := fmt.Fprintln(cmd.out, p); err != nil {
			return err
		}
	}
	return nil
}
