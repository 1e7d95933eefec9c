// SPDX-License-Identifier: Apache-2.0

//go:build linux

package cni

import (
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/skel"
)

// FuzzRequest: whatever a runtime passes is read, or is an error.
func FuzzRequest(f *testing.F) {
	f.Add(`{"cniVersion":"1.1.0","name":"x","type":"weir-cni","agentSocket":"/a","meshes":{"istio":{"dns":{"capture":"all"}},"kuma":false},"config":{"mode":"none"}}`, "K8S_POD_NAME=a;K8S_POD_NAMESPACE=b")
	f.Add(`{"prevResult":{"cniVersion":"1.1.0","ips":[{"address":"10.0.0.1/24"}]},"runtimeConfig":{"dns":{"Servers":["::1%x"]},"io.kubernetes.cri.pod-annotations":null}}`, ";=;x")
	f.Add(`{"cni.dev/valid-attachments":[{"containerID":"c","ifname":"eth0"}],"timeout":"1s"}`, "")
	f.Fuzz(func(t *testing.T, stdin, args string) {
		r, err := readRequest(&skel.CmdArgs{StdinData: []byte(stdin), Args: args})
		if err != nil {
			return
		}
		d, err := (&plugin{}).decideAlone(t.Context(), r)
		if err != nil && strings.ContainsAny(err.Error(), "\n\x1b") {
			t.Errorf("a message of more than a line: %q (%v)", err, d.Outcome)
		}
	})
}

// TestLine: what pods call themselves stays one line of an event.
func TestLine(t *testing.T) {
	if got := line("pod a\x1b[31m/b\nis\tnot"); strings.ContainsAny(got, "\x1b\n\t") {
		t.Errorf("%q", got)
	}
	if got := line(strings.Repeat("ü", maxMessage)); len(got) > maxMessage+3 || !strings.HasSuffix(got, "...") {
		t.Errorf("%d bytes", len(got))
	}
}
