// SPDX-License-Identifier: Apache-2.0

//go:build linux && !man

package main

import "github.com/urfave/cli/v2"

func developers() []*cli.Command { return nil }
