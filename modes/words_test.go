package modes

import (
	"slices"
	"testing"

	"github.com/weir-mesh/weir/rules"
)

func TestWithoutPorts(t *testing.T) {
	for _, tt := range []struct {
		why               string
		list, minus, want []string
	}{
		{"nothing less nothing", nil, nil, []string{}},
		{"what is not in the other list stays as written", []string{"80", "8000-8100"}, []string{"443"}, []string{"80", "8000-8100"}},
		{"a port that is in the other list goes", []string{"80", "443"}, []string{"443"}, []string{"80"}},
		{"a range loses its middle", []string{"1-10"}, []string{"4-6"}, []string{"1-3", "7-10"}},
		{"a range loses its ends", []string{"1-10"}, []string{"1", "10"}, []string{"2-9"}},
		{"a range goes whole", []string{"5-6"}, []string{"1-10"}, nil},
		{"the last port has none after it", []string{"65534-65535"}, []string{"65535"}, []string{"65534"}},
		{"what is no port stays, to be complained of", []string{"web", "80"}, []string{"80", "x"}, []string{"web"}},
		{"a service is its port", []string{"http", "443"}, []string{"80", "https"}, nil},
		{"port 0 by itself is a range", []string{":90"}, []string{"1-90"}, []string{"0-0"}},
	} {
		if got := WithoutPorts(tt.list, tt.minus); !slices.Equal(got, tt.want) {
			t.Errorf("%s: got %q, want %q", tt.why, got, tt.want)
		}
	}
}

// FuzzOverlapping compares with the plain way: every word with every other.
func FuzzOverlapping(f *testing.F) {
	f.Add(uint16(80), uint16(90), uint16(85), uint16(85), uint16(1), uint16(100))
	f.Fuzz(func(t *testing.T, a, b, c, d, e, g uint16) {
		word := func(x, y uint16) string {
			return portText(rules.RangeBetween(rules.Port(max(min(x, y), 1)), rules.Port(max(x, y, 1))))
		}
		others := []string{word(a, b), word(c, d), "no port"}
		r := &reader{}
		r.overlapping("x", []string{word(e, g)}, "y", others)
		quiet := &reader{}
		p, _ := quiet.portRange("", word(e, g))
		want := slices.ContainsFunc(others, func(o string) bool {
			q, ok := quiet.portRange("", o)
			return ok && p.Lo <= q.Hi && q.Lo <= p.Hi
		})
		if (len(r.problems) > 0) != want {
			t.Errorf("%s and %q: %v", word(e, g), others, r.problems)
		}
	})
}
