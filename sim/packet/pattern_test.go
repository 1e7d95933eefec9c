// SPDX-License-Identifier: Apache-2.0

package packet

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/weir-mesh/weir/rules"
	"github.com/weir-mesh/weir/sim"
)

func TestParse(t *testing.T) {
	for text, want := range map[string]Pattern{
		"tcp 10.0.0.1:443":           {Proto: rules.TCP, To: netip.MustParsePrefix("10.0.0.1/32"), Ports: rules.RangeOf(rules.Port(443))},
		"tcp [2001:db8::/32]:443":    {Proto: rules.TCP, To: netip.MustParsePrefix("2001:db8::/32"), Ports: rules.RangeOf(rules.Port(443))},
		"udp 10.96.0.0/12:8000-8100": {Proto: rules.UDP, To: netip.MustParsePrefix("10.96.0.0/12"), Ports: rules.RangeBetween[rules.Port](8000, 8100)},
		"icmp 192.0.2.1":             {Proto: rules.ICMP, To: netip.MustParsePrefix("192.0.2.1/32"), Ports: rules.Range{}},
		"icmpv6 2001:db8::1":         {Proto: rules.ICMPv6, To: netip.MustParsePrefix("2001:db8::1/128"), Ports: rules.Range{}},
		"udp [fe80::1%eth0]:53":      {Proto: rules.UDP, To: netip.MustParsePrefix("fe80::1/128"), Zone: "eth0", Ports: rules.RangeOf(rules.Port(53))},
		"tcp :443":                   {Proto: rules.TCP, Ports: rules.RangeOf(rules.Port(443))},
	} {
		got, err := Parse(text)
		if err != nil || got != want {
			t.Errorf("%q is %+v, %v; want %+v", text, got, err, want)
		}
		if got.String() != text {
			t.Errorf("%q is written as %q", text, got)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for text, want := range map[string][]string{
		"":                       {`"" is not a packet (want a protocol and a destination, such as tcp 10.0.0.1:443)`},
		"sctp 10.0.0.1:1":        {`"sctp" is not a protocol`},
		"tcpp 10.0.0.300:70000":  {`"tcpp" is not a protocol`, `"10.0.0.300" is neither`, `"70000" is not a port`},
		"tcp 10.0.0.1:0":         {`"0" is not a port`},
		"tcp 10.0.0.1:9-8":       {`"9-8" is not a port`},
		"tcp 10.0.0.1:9-":        {`"9-" is not a port`},
		"tcp [::1:443":           {"is not a destination"},
		"tcp [::1]443":           {"is not a destination"},
		"tcp []":                 {"is not a destination"},
		"tcp []:443":             {"is not a destination"},
		"tcp [10.0.0.1]:443":     {"is not a destination"},
		"icmp 10.0.0.1:443":      {"icmp has no ports"},
		"tcp [::ffff:1.2.3.4]:1": {"is neither an address nor a prefix"},
	} {
		_, err := Parse(text)
		for _, part := range want {
			if err == nil || !strings.Contains(err.Error(), part) {
				t.Errorf("%q: %v; want %q", text, err, part)
			}
		}
	}
}

func TestOneAndMatches(t *testing.T) {
	for text, want := range map[string]string{
		"tcp 10.0.0.0/8:443": "is more than one destination", "tcp 10.0.0.1:1-2": "is more than one port", "icmp 2001:db8::1": "is of two families",
		"tcp :443": "is more than one destination", "tcp 10.0.0.1": `has no port (want such as "tcp 10.0.0.1:443")`, "udp 2001:db8::1": `has no port (want such as "udp [2001:db8::1]:443")`,
	} {
		p, err := Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.One(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is taken for one packet, or not so with %q: %v", text, want, err)
		}
	}
	p, err := Parse("tcp 10.0.0.0/8:8000-8100")
	if err != nil {
		t.Fatal(err)
	}
	for to, want := range map[string]bool{"10.1.2.3:8000": true, "10.1.2.3:8101": false, "11.0.0.1:8000": false} {
		if got := p.Matches(sim.Packet{Proto: rules.TCP, Dst: netip.MustParseAddrPort(to)}); got != want {
			t.Errorf("%s matches %s: %v", to, p, got)
		}
	}
}
