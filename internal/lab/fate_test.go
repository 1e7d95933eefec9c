// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"net/netip"
	"testing"

	"github.com/weir-mesh/weir/internal/scratch"
)

func TestParseFate(t *testing.T) {
	for _, tt := range []struct {
		why, text string
		want      scratch.Fate
	}{
		{"all there is", "pod:15006 orig=10.4.5.6:80 src=kept ct=mark=0x111+zone=1,zone=2 marks=in_fwd=0x539",
			scratch.Fate{Land: "pod:15006", Orig: netip.MustParseAddrPort("10.4.5.6:80"), Src: scratch.SourceKept, CT: "mark=0x111+zone=1,zone=2"}},
		{"a datagram", "peer:7000 src=changed", scratch.Fate{Land: "peer:7000", Src: scratch.SourceChanged}},
		{"an error of several words", "error:Network is unreachable ct=zone=1", scratch.Fate{Land: "error:Network is unreachable", CT: "zone=1"}},
	} {
		if got, err := parseFate(tt.text); err != nil || got != tt.want {
			t.Errorf("%s: got %+v, %v, want %+v", tt.why, got, err, tt.want)
		}
	}
	for _, text := range []string{"", "src=kept", "pod:1 src=lost", "pod:1 orig=10.4.5.6", "pod:1 orig="} {
		if got, err := parseFate(text); err == nil {
			t.Errorf("%q: got %v, want an error", text, got)
		}
	}
}

// FuzzParseFate: a fate that can be read is written as it was understood.
func FuzzParseFate(f *testing.F) {
	f.Add("pod:15006 orig=10.4.5.6:80 src=kept ct=mark=0x111 marks=in_fwd=0x539")
	f.Add("error:Network is unreachable ct=zone=1")
	f.Fuzz(func(t *testing.T, text string) {
		fate, err := parseFate(text)
		if err != nil {
			return
		}
		again, err := parseFate(fate.String())
		if err != nil || again != fate {
			t.Errorf("%q is %+v, and again %+v, %v", text, fate, again, err)
		}
	})
}
