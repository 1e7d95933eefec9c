// SPDX-License-Identifier: Apache-2.0

//go:build linux

package kubeapi

import (
	"context"
	"time"

	"github.com/weir-mesh/weir/internal/mesh"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Pod is a pod of this node, whole; false where it is not known.
func (c *Client) Pod(namespace, name string) (mesh.Pod, bool) {
	if p := c.stored(namespace, name); p != nil && c.namespaces.HasSynced() {
		return c.describe(p), true
	}
	return mesh.Pod{}, false
}

// stored is what is kept of a pod; nil where nothing is.
func (c *Client) stored(namespace, name string) *corev1.Pod {
	o, known, err := c.pods.GetStore().GetByKey(namespace + "/" + name)
	if err != nil || !known {
		return nil
	}
	p, _ := o.(*corev1.Pod)
	return p
}

// PodByUID is the same by a UID.
func (c *Client) PodByUID(uid string) (mesh.Pod, bool) {
	found, err := c.pods.GetIndexer().ByIndex(byUID, uid)
	if err != nil || len(found) != 1 || !c.namespaces.HasSynced() {
		return mesh.Pod{}, false
	}
	p, is := found[0].(*corev1.Pod)
	if !is {
		return mesh.Pod{}, false
	}
	return c.describe(p), true
}

// askTime is how long an API server has for a pod that the kubelet knows already: the runtime waits.
const askTime = time.Second

// Await is a pod that starts at this moment: the kubelet may have heard of it before the agent has.
func (c *Client) Await(ctx context.Context, namespace, name, uid string) (mesh.Pod, bool) {
	p, known := c.Pod(namespace, name)
	if known && (uid == "" || p.UID == uid) {
		return p, true
	}
	if !c.namespaces.HasSynced() {
		return mesh.Pod{}, false
	}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	asked, err := c.core.getPod(ctx, namespace, name)
	if err != nil || uid != "" && string(asked.UID) != uid {
		return mesh.Pod{}, false
	}
	return c.describe(asked), true
}

// ServiceAccount is the name of a pod's service account; "" where the pod is not known.
func (c *Client) ServiceAccount(namespace, name string) string {
	if p := c.stored(namespace, name); p != nil {
		return p.Spec.ServiceAccountName
	}
	return ""
}

// Namespaces are those that have a label of that value.
func (c *Client) Namespaces(label, value string) (out []string) {
	for _, o := range c.namespaces.GetStore().List() {
		if n, is := o.(*metav1.PartialObjectMetadata); is && n.Labels[label] == value {
			out = append(out, n.Name)
		}
	}
	return out
}

// Pods are the pods of this node.
func (c *Client) Pods() (out []mesh.Pod) {
	for _, o := range c.pods.GetStore().List() {
		if p, is := o.(*corev1.Pod); is {
			out = append(out, c.describe(p))
		}
	}
	return out
}
