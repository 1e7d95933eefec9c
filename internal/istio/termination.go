// SPDX-License-Identifier: Apache-2.0

//go:build linux

package istio

import (
	"fmt"
	"os"
)

const terminationLog = "/dev/termination-log"

// WriteTerminationLog tells the kubelet why a run failed, which `kubectl describe pod` then shows; with
// a nil error it clears what an earlier run of the container wrote. Outside of a pod the file is not
// there, and is not made.
func WriteTerminationLog(failed error) {
	f, err := os.OpenFile(terminationLog, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return
	}
	defer f.Close()
	if failed != nil {
		fmt.Fprintln(f, "weir:", failed)
	}
}
