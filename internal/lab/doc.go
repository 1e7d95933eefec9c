// Package lab makes small networks out of kernel namespaces and tells what became of real packets in
// them: namespaces joined by veth pairs, listeners that answer with what they saw, probes that record
// which listener answered. On top of those stands [Pod], the one topology that the conformance tables
// were recorded in.
//
// It runs no other program and writes no file (unless [Namespace.Bind] is asked to). What it makes
// lives in anonymous namespaces that vanish with the process that made them, however that ends. It
// needs CAP_SYS_ADMIN and CAP_NET_ADMIN, which root has and which `unshare -Urn` gives to anyone;
// sockets of other users need CAP_SETUID and CAP_SETGID as well, and users that exist in the user
// namespace.
//
// The package knows nothing of interception: it must not import the packages that it helps to judge.
package lab
