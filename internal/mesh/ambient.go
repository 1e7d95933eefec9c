// SPDX-License-Identifier: Apache-2.0

package mesh

import "fmt"

// The label that puts a pod, or the pods of a namespace, into the ambient mesh.
const (
	DataplaneMode    = "istio.io/dataplane-mode"
	DataplaneAmbient = "ambient"
	dataplaneNone    = "none"
)

// ambient is why a pod is to be captured for the node's proxy, "" where it is not, or that is not known.
func ambient(p Pod) string {
	switch {
	case p.Spec == nil:
		return p.Enrolled
	case p.Spec.HostNetwork:
		return ""
	}
	switch p.Spec.Labels[DataplaneMode] {
	case DataplaneAmbient:
		return fmt.Sprintf("its label %s is %s", DataplaneMode, DataplaneAmbient)
	case dataplaneNone:
		return ""
	}
	if p.Spec.NamespaceLabels[DataplaneMode] == DataplaneAmbient {
		return fmt.Sprintf("label %s of namespace %s is %s", DataplaneMode, p.Namespace, DataplaneAmbient)
	}
	return ""
}
