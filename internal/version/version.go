// Package version is which weir this is.
package version

import "runtime/debug"

// release is set at build time: -ldflags "-X github.com/weir-mesh/weir/internal/version.release=v1.2.3".
var release = ""

// String returns the release such as v1.2.3, or what the Go toolchain knows of the main module's
// version, which has the commit where it is not a release, or "dev".
func String() string {
	if release != "" {
		return release
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "dev"
}
