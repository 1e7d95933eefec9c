package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"github.com/urfave/cli/v2"
	"github.com/weir-mesh/weir/internal/escape"
)

// release is set at build time, by -ldflags "-X main.release=v1.2.3".
var release = ""

// version is the release, or what the Go toolchain knows of the build.
func version() string {
	if release != "" {
		return release
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "dev"
}

func versionCommand() *cli.Command {
	return &cli.Command{
		Usage:       "print the version",
		Description: "Example: weir version --json",
		Flags:       []cli.Flag{jsonFlag()},
		Action: func(cc *cli.Context) error {
			if cc.Bool("json") {
				return writeJSON(cc.App.Writer, map[string]string{
					"version": version(), "go": runtime.Version(), "os": runtime.GOOS, "arch": runtime.GOARCH})
			}
			_, err := fmt.Fprintln(cc.App.Writer, "weir", version())
			return err
		},
	}
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
