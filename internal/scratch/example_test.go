// SPDX-License-Identifier: Apache-2.0

//go:build linux

package scratch_test

import (
	"context"
	"fmt"
	"log"
	"net/netip"
	"time"

	"github.com/weir-mesh/weir/internal/scratch"
)

// Two namespaces and a link: one asks, the other plays the rest of the world.
func Example() {
	ctx := context.Background()
	app, err := scratch.NewNamespace()
	if err != nil {
		log.Fatal(err)
	}
	defer app.Close()
	world, err := scratch.NewNamespace()
	if err != nil {
		log.Fatal(err)
	}
	defer world.Close()

	for _, err := range []error{
		scratch.Veth(app, "eth0", world, "world0"),
		app.AddAddress("eth0", netip.MustParsePrefix("192.0.2.2/24")),
		world.AddAddress("world0", netip.MustParsePrefix("192.0.2.1/24")),
		app.Up("eth0"),
		world.Up("world0"),
		app.AddRoute(scratch.Route{Dst: netip.MustParsePrefix("0.0.0.0/0"), Via: netip.MustParseAddr("192.0.2.1")}),
		world.CatchAll(7000, "world0"),
	} {
		if err != nil {
			log.Fatal(err)
		}
	}
	server, err := scratch.Listeners{Name: "world", TCP: []uint16{7000}}.Serve(ctx, world)
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()

	probe := scratch.Probe{Proto: "tcp", Dst: netip.MustParseAddr("93.184.216.34"), DPort: 443}
	if err := probe.Await(ctx, app); err != nil {
		log.Fatal(err)
	}
	fate, err := probe.Send(ctx, app, time.Second)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(fate) // world:7000 orig=93.184.216.34:443 src=kept
}
