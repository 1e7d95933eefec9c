// SPDX-License-Identifier: Apache-2.0

// Package config reads configurations that people write, as YAML documents and
// flags, and tells every problem with the line and column where it stands:
//
//	file, err := config.Parse("pod.yaml", data)
//
// What the words mean is for package modes. The package is pure: bytes go in and
// values come out. It knows no file, kernel, command line or clock, and builds on
// every system.
package config
