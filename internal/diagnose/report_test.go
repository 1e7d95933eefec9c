//go:build linux

package diagnose

import "testing"

func TestRedact(t *testing.T) {
	for in, want := range map[string]string{
		"to 10.1.2.3 by 10.1.2.3:80 and 10.1.2.4": "to addr-1 by addr-1:80 and addr-2",
		"ip daddr 127.0.0.1 and ::1 and ::6":      "ip daddr 127.0.0.1 and ::1 and ::6",
		"fd00:10:244:1::5/64, [2001:db8::7]:443.": "addr-1/64, [addr-2]:443.",
		"at 12:30:01 it was 0.0.0.0/0":            "at 12:30:01 it was 0.0.0.0/0",
	} {
		if got := string(redact([]byte(in))); got != want {
			t.Errorf("%q is redacted as %q, want %q", in, got, want)
		}
	}
}
