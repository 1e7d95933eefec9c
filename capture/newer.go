// SPDX-License-Identifier: Apache-2.0

//go:build linux

package capture

import (
	"github.com/weir-mesh/weir/capture/internal/policy"
	"github.com/weir-mesh/weir/internal/version"
)

// Newer reports whether a version that a tag names is newer than this program's module, whose rules a program
// that heals by itself should leave. It is false where either is not a version such as v1.2.3.
func Newer(tagVersion string) bool { return policy.Newer(tagVersion, version.String()) }
