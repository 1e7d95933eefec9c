// SPDX-License-Identifier: Apache-2.0

// Package survey says what becomes of every packet of TCP, UDP and ICMP between
// unicast addresses. It does not sample: it cuts the space of packets into classes
// of membership, by what a ruleset tests them for, takes one packet of each class,
// and joins classes of one outcome into the fewest rows that it finds. Ten thousand
// prefixes of one set are two classes.
//
// It is about the first packets of connections, whose way the rest follow, and about
// those that conntrack calls invalid where rules tell them apart.
package survey
