package lab_test

import (
	"context"
	"fmt"
	"log"
	"net/netip"
	"time"

	"github.com/weir-mesh/weir/internal/lab"
)

// Two namespaces and a link: one asks, the other plays the rest of the world.
func Example() {
	ctx := context.Background()
	app, err := lab.NewNamespace()
	if err != nil {
		log.Fatal(err)
	}
	defer app.Close()
	world, err := lab.NewNamespace()
	if err != nil {
		log.Fatal(err)
	}
	defer world.Close()

	for _, err := range []error{
		lab.Veth(app, "eth0", world, "world0"),
		app.AddAddress("eth0", netip.MustParsePrefix("192.0.2.2/24")),
		world.AddAddress("world0", netip.MustParsePrefix("192.0.2.1/24")),
		app.Up("eth0"),
		world.Up("world0"),
		app.AddRoute(lab.Route{Dst: netip.MustParsePrefix("0.0.0.0/0"), Via: netip.MustParseAddr("192.0.2.1")}),
		world.CatchAll(7000, "world0"),
	} {
		if err != nil {
			log.Fatal(err)
		}
	}
	server, err := lab.Listeners{Name: "world", TCP: []uint16{7000}}.Serve(ctx, world)
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()

	probe := lab.Probe{Proto: "tcp", Dst: netip.MustParseAddr("93.184.216.34"), DPort: 443}
	if err := probe.Await(ctx, app); err != nil {
		log.Fatal(err)
	}
	fate, err := probe.Send(ctx, app, time.Second)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(fate) // world:7000 orig=93.184.216.34:443 src=kept
}

// A run of the conformance lab.
func ExampleRunProbes() {
	ctx := context.Background()
	probes, err := lab.LoadProbes("probes.json")
	if err != nil {
		log.Fatal(err)
	}
	table, err := lab.LoadTable("tproxy.json")
	if err != nil {
		log.Fatal(err)
	}
	pod, err := lab.NewPod(ctx, table.Proxy)
	if err != nil {
		log.Fatal(err)
	}
	defer pod.Close()

	// Here the command under test is applied in the namespace at pod.Path().

	fates, err := lab.RunProbes(ctx, pod, probes)
	if err != nil {
		log.Fatal(err)
	}
	for id, want := range table.Fates {
		if got := fates[id]; got != want {
			fmt.Printf("%s: got %s, want %s\n", id, got, want)
		}
	}
}
