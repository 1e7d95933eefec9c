// SPDX-License-Identifier: Apache-2.0

package packet_test

import (
	"fmt"

	"github.com/weir-mesh/weir/sim/packet"
)

func Example() {
	services, err := packet.Parse("tcp 10.96.0.0/12:443")
	fmt.Println(services, err)
	one, err := packet.Parse("tcp 10.96.0.10:443")
	if err != nil {
		fmt.Println(err)
		return
	}
	p, err := one.One()
	fmt.Println(services.Matches(p), err)
	_, err = packet.Parse("tcp 10.96.0.0/12:70000")
	fmt.Println(err)
	// Output:
	// tcp 10.96.0.0/12:443 <nil>
	// true <nil>
	// "70000" is not a port (want 1-65535 or a range such as 8000-8100)
}
