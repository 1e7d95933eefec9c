// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package install puts the CNI plugin into a node by hand: the program into the folder where the runtime
// looks for plugins, and its entry into the network list, and takes both out again. A runtime reads the list
// at any moment, and the primary plugin writes it at any moment: each file is there whole or not at all, and
// nothing of what others wrote is lost, not even its layout.
package install
