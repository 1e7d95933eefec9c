// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"runtime"

	"github.com/urfave/cli/v2"
	"github.com/weir-mesh/weir/internal/escape"
	"github.com/weir-mesh/weir/internal/version"
)

func versionCommand() *cli.Command {
	return &cli.Command{
		Usage:       "print the version",
		Description: "Example: weir version --json",
		Flags:       []cli.Flag{jsonFlag()},
		Action:      printVersion,
	}
}

func printVersion(cc *cli.Context) error {
	if !cc.Bool("json") {
		_, err := fmt.Fprintln(cc.App.Writer, "weir", version.String())
		return err
	}
	commit, date := version.Commit()
	return writeJSON(cc.App.Writer, struct {
		Version string `json:"version"`
		Commit  string `json:"commit,omitempty"`
		Date    string `json:"date,omitempty"` // of the commit
		Go      string `json:"go"`
		OS      string `json:"os"`
		Arch    string `json:"arch"`
	}{version.String(), commit, date, runtime.Version(), runtime.GOOS, runtime.GOARCH})
}

func jsonFlag() cli.Flag {
	return &cli.BoolFlag{Name: "json", DisableDefaultText: true, Usage: "print JSON"}
}

func writeJSON(w io.Writer, v any) error { return encodeJSON(w, v, "  ") }

func writeJSONLine(w io.Writer, v any) error { return encodeJSON(w, v, "") }

func encodeJSON(w io.Writer, v any, indent string) error {
	var document bytes.Buffer
	e := json.NewEncoder(&document)
	e.SetIndent("", indent)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return err
	}
	_, err := w.Write(escape.JSON(document.Bytes()))
	return err
}
