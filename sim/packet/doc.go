// SPDX-License-Identifier: Apache-2.0

// Package packet is the grammar in which people and programs say which packets
// they mean:
//
//	tcp 10.0.0.1:443
//	tcp [2001:db8::/32]:443
//	udp 10.96.0.0/12:53-54
//	icmp 192.0.2.1
//	tcp :443
//
// The package knows rules, whose packets it describes, and nothing of where they
// are looked for.
package packet
