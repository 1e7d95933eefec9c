// Package version tells which weir a program is, or was built with.
package version

import "runtime/debug"

const module = "github.com/weir-mesh/weir"

// release is set at build time, by
// -ldflags "-X github.com/weir-mesh/weir/internal/version.release=v1.2.3".
var release = ""

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
