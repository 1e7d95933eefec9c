package lab

import (
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestParseFate(t *testing.T) {
	for _, tt := range []struct {
		why, text string
		want      Fate
	}{
		{"all there is", "pod:15006 orig=10.4.5.6:80 src=kept ct=mark=0x111+zone=1,zone=2 marks=in_fwd=0x539",
			Fate{"pod:15006", netip.MustParseAddrPort("10.4.5.6:80"), SourceKept, "mark=0x111+zone=1,zone=2"}},
		{"a datagram", "peer:7000 src=changed", Fate{Land: "peer:7000", Src: SourceChanged}},
		{"an error of several words", "error:Network is unreachable ct=zone=1", Fate{Land: "error:Network is unreachable", CT: "zone=1"}},
	} {
		if got, err := ParseFate(tt.text); err != nil || got != tt.want {
			t.Errorf("%s: got %+v, %v, want %+v", tt.why, got, err, tt.want)
		}
	}
	for _, text := range []string{"", "src=kept", "pod:1 src=lost", "pod:1 orig=10.4.5.6", "pod:1 orig="} {
		if got, err := ParseFate(text); err == nil {
			t.Errorf("%q: got %v, want an error", text, got)
		}
	}
}

// FuzzParseFate: a fate that can be read is written as it was understood.
func FuzzParseFate(f *testing.F) {
	f.Add("pod:15006 orig=10.4.5.6:80 src=kept ct=mark=0x111 marks=in_fwd=0x539")
	f.Add("error:Network is unreachable ct=zone=1")
	f.Fuzz(func(t *testing.T, text string) {
		fate, err := ParseFate(text)
		if err != nil {
			return
		}
		again, err := ParseFate(fate.String())
		if err != nil || again != fate {
			t.Errorf("%q is %+v, and again %+v, %v", text, fate, again, err)
		}
	})
}

func TestEnding(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want string
	}{
		{fmt.Errorf("wrapped: %w", os.NewSyscallError("connect", unix.ECONNREFUSED)), "refused"},
		{os.ErrDeadlineExceeded, "timeout"},
		{os.NewSyscallError("connect", unix.ETIMEDOUT), "timeout"},
		{io.EOF, "closed"},
		{os.NewSyscallError("connect", unix.EHOSTUNREACH), "error:No route to host"},
		{os.NewSyscallError("read", unix.ECONNRESET), "error:Connection reset by peer"},
		{io.ErrUnexpectedEOF, "error:unexpected EOF"},
	} {
		if got := ending(tt.err); got != tt.want {
			t.Errorf("%v: got %q, want %q", tt.err, got, tt.want)
		}
	}
	if strings.Contains(ending(unix.ENOENT), "no such") {
		t.Error("the system's words start with a capital letter")
	}
}
