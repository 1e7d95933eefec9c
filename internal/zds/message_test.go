// SPDX-License-Identifier: Apache-2.0

//go:build linux

package zds_test

import (
	"encoding/hex"
	"testing"

	"github.com/weir-mesh/weir/internal/zds"
)

// TestMessages: packets as protoc-made code writes them, byte for byte.
func TestMessages(t *testing.T) {
	for _, tt := range []struct {
		why  string
		r    zds.Request
		want string
	}{
		{"a pod with its workload", zds.Request{Kind: zds.Add, Workload: zds.Workload{UID: "u1", Name: "cart", Namespace: "shop", ServiceAccount: "sa"}},
			"0a16" + "0a027531" + "1210" + "0a0463617274" + "120473686f70" + "1a027361"},
		{"a field that is empty is left out", zds.Request{Kind: zds.Add, Workload: zds.Workload{UID: "u1"}}, "0a06" + "0a027531" + "1200"},
		{"Del has its UID in field 2", zds.Request{Kind: zds.Del, Workload: zds.Workload{UID: "u1"}}, "1204" + "12027531"},
		{"SnapshotSent is empty", zds.Request{Kind: zds.SnapshotSent}, "1a00"},
		{"Keep is field 5", zds.Request{Kind: zds.Keep, Workload: zds.Workload{UID: "u1"}}, "2a04" + "0a027531"},
	} {
		packet := tt.r.Append(nil)
		if got := hex.EncodeToString(packet); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.why, got, tt.want)
		}
		if back, err := zds.ParseRequest(packet); err != nil || back != tt.r {
			t.Errorf("%s: read as %+v, %v", tt.why, back, err)
		}
	}
	if got := hex.EncodeToString(zds.AppendHello(nil)); got != "0801" {
		t.Errorf("hello is %s", got)
	}
	for _, problem := range []string{"", "no such namespace"} {
		if got, err := zds.ParseAck(zds.AppendAck(nil, problem)); err != nil || got != problem {
			t.Errorf("ack %q is read as %q, %v", problem, got, err)
		}
	}
	for name, b := range map[string]string{"nothing": "", "a number": "0801", "another field": "1200", "cut": "0a05"} {
		packet, err := hex.DecodeString(b)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := zds.ParseAck(packet); err == nil {
			t.Errorf("%s is an acknowledgement", name)
		}
		if name != "a number" && zds.ParseHello(packet) == nil {
			t.Errorf("%s is a hello", name)
		}
	}
}

// FuzzMessages: whatever comes, there is a value or an error, and a request that was read is written as one
// that reads the same.
func FuzzMessages(f *testing.F) {
	for _, k := range []zds.Kind{zds.Add, zds.Del, zds.Keep, zds.SnapshotSent} {
		f.Add(zds.Request{Kind: k, Workload: zds.Workload{UID: "u", Name: "n", Namespace: "s", ServiceAccount: "a"}}.Append(nil))
	}
	f.Add(zds.AppendAck(nil, "no"))
	f.Fuzz(func(t *testing.T, b []byte) {
		_ = zds.ParseHello(b)
		_, _ = zds.ParseAck(b)
		r, err := zds.ParseRequest(b)
		if err != nil {
			return
		}
		if again, err := zds.ParseRequest(r.Append(nil)); err != nil || again != r {
			t.Fatalf("%+v is read back as %+v, %v", r, again, err)
		}
	})
}
