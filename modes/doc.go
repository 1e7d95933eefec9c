// SPDX-License-Identifier: Apache-2.0

// Package modes says what to capture. A [Config] is what people write and an
// [Environment] what a network namespace is like; together they become, checked,
// a [rules.State]:
//
//	state, notes, err := modes.State(config, environment)
//
// A program fills a Config with the words that its fields document, and makes those of
// ports, marks, users and groups of numbers. A sidecar's needs only to say by what its
// proxy is known:
//
//	config := modes.Config{
//		Mode:  modes.ModeSidecar,
//		Proxy: modes.Proxy{UIDs: modes.IDs(1337)},
//		Inbound: modes.Inbound{
//			Via:          "tproxy",
//			Port:         modes.Port(15006),
//			ExcludePorts: append(modes.Ports(22, 15020), modes.PortRange(30000, 30010)),
//		},
//		Routing: modes.Routing{Mark: modes.MaskedMark(0x539, 0xfff)},
//	}
//
// [Check] tells what is wrong with it before there is a namespace, and [Problems] lists
// that by keys.
//
// Each mode is one file that reads top-down in the order in which packets meet
// its rules. The package touches no kernel, file or clock: it imports rules
// alone and builds on every system.
package modes
