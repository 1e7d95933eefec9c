// SPDX-License-Identifier: Apache-2.0

//go:build linux

package istio

import (
	"fmt"
	"log/slog"
	"strings"

	"github.com/weir-mesh/weir/internal/mesh/options"
	"github.com/weir-mesh/weir/internal/term"
)

// Level is the level at which --log_output_level asks to log: the first one of a list such as
// default:info,ads:debug that names no scope, or default. It is info where the flag does not parse,
// which [Arguments.Config] reports.
func (a *Arguments) Level() slog.Level {
	level, _ := parseLevel(a.logLevel)
	return level
}

func parseLevel(list string) (slog.Level, error) {
	levels := map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn,
		"error": slog.LevelError, "fatal": slog.LevelError, "none": slog.LevelError + 1}
	wanted, found := slog.LevelInfo, false
	for _, w := range options.Split(list) {
		scope, level, scoped := strings.Cut(w, ":")
		if !scoped {
			level = scope
		}
		l, known := levels[level]
		if !known {
			return slog.LevelInfo, fmt.Errorf("--log_output_level: %q is not a level (want debug, info, warn, error, fatal or none)", term.Shorten(level))
		}
		if all := !scoped || scope == "default" || scope == "all"; all && !found {
			wanted, found = l, true
		}
	}
	return wanted, nil
}
