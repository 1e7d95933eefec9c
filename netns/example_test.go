// SPDX-License-Identifier: Apache-2.0

//go:build linux

package netns_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"

	"github.com/weir-mesh/weir/netns"
)

// A namespace is opened by a process that is in it, or by its name, and read by netlink.
func Example() {
	ctx := context.Background()
	ns, err := netns.OfProcess(os.Getpid()) // of a pod, one of its processes
	if err != nil {
		log.Fatal(err)
	}
	defer ns.Close()
	if ns.IsCurrent() {
		ns = netns.Current() // to enter any other one takes root
	}
	addresses, err := ns.Addresses(ctx)
	for _, a := range addresses {
		if !a.Loopback() {
			fmt.Fprintln(os.Stderr, "interface", a.Index, "has", a.Prefix)
		}
	}
	fmt.Println("addresses were read:", err == nil)

	_, err = netns.Open("no-such-pod") // a name of ip-netns(8), or a path
	fmt.Println("there is no such name:", errors.Is(err, netns.ErrNotExist))
	// Output:
	// addresses were read: true
	// there is no such name: true
}
