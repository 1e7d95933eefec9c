// SPDX-License-Identifier: Apache-2.0

package packet

import "testing"

// FuzzParse: what is read is read again from its own text.
func FuzzParse(f *testing.F) {
	for _, text := range []string{"tcp 10.0.0.1:443", "udp [2001:db8::/32]:53", "icmp 192.0.2.1", "tcp 10.0.0.0/8:1-65535", "tcp :80", "tcp [", "tcp []"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := Parse(text)
		if err != nil {
			return
		}
		if again, err := Parse(p.String()); err != nil || again != p {
			t.Errorf("%q is %+v; its text %q is %+v, %v", text, p, p.String(), again, err)
		}
	})
}
