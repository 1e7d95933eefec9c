// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package scratch makes small networks out of kernel namespaces: namespaces joined by veth pairs, with
// addresses, routes and sysctls; listeners that answer with what they saw, and probes that record which
// listener answered.
//
// It runs no other program and writes no file (unless [Namespace.Bind] is asked to). What it makes
// lives in anonymous namespaces that vanish with the process that made them, however that ends. It
// needs CAP_SYS_ADMIN and CAP_NET_ADMIN, which root has and which `unshare -Urn` gives to any user;
// sockets of other users need CAP_SETUID and CAP_SETGID as well, and users that exist in the user
// namespace.
//
// The package knows nothing of interception: it must not import the packages that it helps to judge.
package scratch
