// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bytes"
	"errors"
	"io"
	"os"

	"github.com/urfave/cli/v2"
	"github.com/weir-mesh/weir/internal/egress/report"
)

func reportCommand() *cli.Command {
	return &cli.Command{
		Name:      "report",
		Usage:     "one HTML page of what watch --json wrote: hosts by bytes over time, by owner, and how names are known",
		ArgsUsage: "FILE",
		Description: "Example: weir-egress watch --json --top 0 > egress.jsonl; weir-egress report egress.jsonl > egress.html\n\n" +
			"FILE is - for standard input. The page needs nothing from elsewhere, and runs no script.",
		Action: runReport,
	}
}

func runReport(cc *cli.Context) error {
	if cc.NArg() != 1 {
		return usageError{errors.New("report takes one FILE, - for standard input")}
	}
	in := io.Reader(os.Stdin)
	if name := cc.Args().First(); name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		in = f
	}
	var page bytes.Buffer
	if err := report.Write(&page, in); err != nil {
		return err
	}
	_, err := cc.App.Writer.Write(page.Bytes())
	return err
}
