// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"testing"

	"github.com/weir-mesh/weir/internal/scratch"
)

func newPod(t testing.TB) *Pod {
	t.Helper()
	scratch.NeedUsers(t)
	pod, err := NewPod(t.Context(), scratch.Identity{UID: 1337, GID: 1337})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := pod.Close(); err != nil {
			t.Error(err)
		}
	})
	return pod
}
