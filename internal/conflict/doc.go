// SPDX-License-Identifier: Apache-2.0

// Package conflict judges what stands in a ruleset's way in a network namespace: tables, policy
// rules, routes, settings, sockets and programs of others that keep captured traffic from the proxy.
// It evaluates packets (package sim) with and without each of them, so that what looks alike and
// changes nothing is not a conflict. It is pure: what a namespace holds is handed to it.
package conflict
