// SPDX-License-Identifier: Apache-2.0

//go:build linux

package node

import "testing"

func TestCgroupPath(t *testing.T) {
	for name, want := range map[string]string{
		"/kubepods/burstable/podUID/ID": "/kubepods/burstable/podUID/ID",
		"../../x":                       "/x",
		"kubepods-besteffort-podU_I_D.slice:cri-containerd:ID": "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-podU_I_D.slice/cri-containerd-ID.scope",
		"-.slice:crio:ID":                     "/crio-ID.scope",
		":cri-containerd:ID":                  "/system.slice/cri-containerd-ID.scope",
		"kubelet-kubepods-podU_I_D.slice::ID": "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-podU_I_D.slice/ID.scope",
	} {
		if got := cgroupPath(name); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}
