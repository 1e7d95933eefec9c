// SPDX-License-Identifier: Apache-2.0

//go:build linux && man

package main

import (
	"github.com/urfave/cli/v2"
	"github.com/weir-mesh/weir/internal/man/climan"
)

// developers are commands that make the manual, which no program that is installed carries.
func developers() []*cli.Command { return []*cli.Command{climan.Command()} }
