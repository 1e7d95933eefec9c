// SPDX-License-Identifier: Apache-2.0

package modes

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"

	"github.com/weir-mesh/weir/rules"
	"github.com/weir-mesh/weir/sim"
)

// BenchmarkExplain evaluates one packet over the default sidecar, and over one
// with 10,000 excluded prefixes.
func BenchmarkExplain(b *testing.B) {
	for _, excluded := range []int{0, 10000} {
		b.Run(fmt.Sprint(excluded), func(b *testing.B) {
			c := Config{Mode: ModeSidecar, Proxy: Proxy{UIDs: []string{"1337"}, GIDs: []string{"1337"}}}
			for i := range excluded {
				a := netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, 20<<24|uint32(i)<<1)))
				c.Outbound.ExcludeCIDRs = append(c.Outbound.ExcludeCIDRs, a.String())
			}
			state, _, err := State(c, Environment{IPv6: true, LoopbackIPv6: true})
			if err != nil {
				b.Fatal(err)
			}
			host := sim.NewHost(sim.Link{Name: "eth0", Addresses: []netip.Prefix{netip.MustParsePrefix("10.244.1.5/24")}})
			host.Routes = append(host.Routes, sim.Route{Table: rules.MainTable, Dst: netip.MustParsePrefix("0.0.0.0/0"), Type: rules.Unicast, Out: "eth0"})
			host.Assumes = true
			e := sim.EvaluatorOf(state, host)
			p := sim.Packet{Proto: rules.TCP, Dst: netip.MustParseAddrPort("203.0.113.7:443"), Socket: &sim.Socket{UID: 1000}}
			if f := e.Evaluate(p, nil).Fate; f.Kind != sim.Redirected {
				b.Fatalf("%+v", f)
			}
			b.ReportAllocs()
			for b.Loop() {
				e.Evaluate(p, nil)
			}
		})
	}
}
