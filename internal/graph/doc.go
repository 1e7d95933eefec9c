// SPDX-License-Identifier: Apache-2.0

// Package graph draws tables: hooks in the order in which packets meet them, chains
// as boxes with their rules and reasons, jumps as arrows, sets as notes beside
// the chains that use them. It writes Mermaid, and HTML pages that stand alone.
//
// The package knows rules alone: whether a table is live or only wanted, and what
// becomes of a packet, it is told.
package graph
