// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package meshinit is what the init programs of meshes have in common, as commands of weir: arguments that mean a
// configuration, its resolution in a network namespace, and messages that name the program's own flags.
//
// It neither prints nor ends the program; the command does.
package meshinit
