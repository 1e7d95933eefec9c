// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package cluster tests the node agent on a Kubernetes cluster of one node: etcd, the control plane, the
// kubelet and containerd run as they are, in namespaces of their own. `make cluster-test` builds them and
// runs it; the programs are pinned in the module in folder programs.
package cluster

import (
	"os"
	"testing"
)

// TestMain plays a role where the program is started in a container: the tests' own program is in the image.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "role" {
		os.Exit(play(os.Args[2], os.Args[3:]))
	}
	os.Exit(m.Run())
}
