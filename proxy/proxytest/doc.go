// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package proxytest tests transparent proxies. It makes network namespaces with an application and
// the rest of the world, has Weir's rules divert connections there, runs the proxy under test inside,
// and says what is wrong with it:
//
//	func TestTransparent(t *testing.T) {
//		proxytest.Test(t, func(ctx context.Context, s proxytest.Setup) error {
//			return serve(ctx, s) // the proxy, until ctx is done
//		})
//	}
//
// [TestCommand] does so with a proxy that is a program. Each test is a subtest such as
// tproxy/ipv6/inbound; see [Setup] for what is asked of the proxy in each. Found are, with the reason
// in the failure: a proxy whose onward connections are diverted again because they lack the mark; one
// that dials from its own address where the server is to see the client's; one that listens on IPv4
// alone; one whose listener is not transparent; one that ends both streams of a connection where one
// has ended; one that waits for the client where the server speaks first; lost or altered bytes; and
// a connection that arrives elsewhere than it was going.
//
// The proxy relays TCP as it is: the tests speak a protocol of their own.
//
// CAP_SYS_ADMIN and CAP_NET_ADMIN are needed, which root has, and which `unshare -Urn` gives to
// everybody; without them the tests are skipped. Nothing outside of the namespaces is touched, and
// nothing is left behind.
package proxytest
