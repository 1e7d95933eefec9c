// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package report makes one page of what a watch wrote: hosts by bytes over time, by owner, and the evidence for each
// name. The page needs nothing from elsewhere, and runs no script. The package knows no kernel.
package report
