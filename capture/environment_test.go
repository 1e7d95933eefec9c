package capture

import (
	"strings"
	"testing"
)

func TestNamesAfterALongLine(t *testing.T) {
	names := parseNames([]byte("staff:x:50:" + strings.Repeat("someone,", 100_000) + "\nmesh:x:1337:\n"))
	if names["staff"] != 50 || names["mesh"] != 1337 {
		t.Errorf("read %v", names)
	}
}

func TestKernelSince(t *testing.T) {
	for _, tt := range []struct {
		release string
		want    bool
	}{{"5.7.0", true}, {"5.10.0-28-amd64", true}, {"6.1", true}, {"5.6.19", false}, {"4.19.0", false}, {"", false}, {"unknown", false}} {
		if got := kernelSince(tt.release, 5, 7); got != tt.want {
			t.Errorf("%q since 5.7: %v", tt.release, got)
		}
	}
}
