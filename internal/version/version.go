// SPDX-License-Identifier: Apache-2.0

// Package version tells which weir a program is, or was built with.
package version

import "runtime/debug"

const module = "github.com/weir-mesh/weir"

// Set at build time by the linker, -ldflags "-X github.com/weir-mesh/weir/internal/version.release=v1.2.3".
var (
	release = "" // a version
	commit  = "" // the revision in full
	date    = "" // of the commit, RFC 3339
)

// String is the release; without one, the version of weir's module that the Go
// toolchain recorded, as the program's own or as one that it imports; else "dev".
func String() string {
	if release != "" {
		return release
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "dev"
	}
	for _, m := range append([]*debug.Module{&info.Main}, info.Deps...) {
		if m.Path == module && m.Version != "" && m.Version != "(devel)" {
			return m.Version
		}
	}
	return "dev"
}

// Commit is the revision that the program was built from and the time of it (RFC 3339), as the
// release says or the Go toolchain recorded; empty where neither did.
func Commit() (revision, at string) {
	if commit != "" {
		return commit, date
	}
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Path != module {
		return "", ""
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			revision = s.Value
		case "vcs.time":
			at = s.Value
		}
	}
	return revision, at
}
