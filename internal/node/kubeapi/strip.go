// SPDX-License-Identifier: Apache-2.0

//go:build linux

package kubeapi

import (
	"reflect"
	"slices"

	"github.com/weir-mesh/weir/internal/mesh"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// variables are those of a container's environment that decide about capture.
var variables = []string{"DISABLE_ENVOY", "ISTIO_META_DNS_CAPTURE", "ISTIO_DUAL_STACK", "INVALID_DROP"}

// stripPod leaves of a pod what is read, before it is kept: a node's pods may hold megabytes otherwise. Its status, which
// changes all the time, is not read.
func stripPod(o any) (any, error) {
	p, is := o.(*corev1.Pod)
	if !is {
		return o, nil // the mark of a deletion that was not heard of
	}
	out := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: p.Name, Namespace: p.Namespace, UID: p.UID, ResourceVersion: p.ResourceVersion,
		Labels: p.Labels, Annotations: p.Annotations, DeletionTimestamp: p.DeletionTimestamp}}
	delete(out.Annotations, "kubectl.kubernetes.io/last-applied-configuration")
	out.Spec.HostNetwork, out.Spec.RuntimeClassName, out.Spec.ServiceAccountName = p.Spec.HostNetwork, p.Spec.RuntimeClassName, p.Spec.ServiceAccountName
	out.Spec.InitContainers = stripContainers(p.Spec.InitContainers)
	out.Spec.Containers = stripContainers(p.Spec.Containers)
	return out, nil
}

func stripContainers(all []corev1.Container) []corev1.Container {
	var out []corev1.Container
	for _, c := range all {
		kept := corev1.Container{Name: c.Name, Args: slices.Clone(c.Args[:min(len(c.Args), 2)])}
		for _, v := range c.Env {
			if slices.Contains(variables, v.Name) {
				kept.Env = append(kept.Env, corev1.EnvVar{Name: v.Name, Value: v.Value})
			}
		}
		if s := c.SecurityContext; s != nil && (s.RunAsUser != nil || s.RunAsGroup != nil) {
			kept.SecurityContext = &corev1.SecurityContext{RunAsUser: s.RunAsUser, RunAsGroup: s.RunAsGroup}
		}
		out = append(out, kept)
	}
	return out
}

func stripNamespace(o any) (any, error) {
	n, is := o.(*metav1.PartialObjectMetadata)
	if !is {
		return o, nil
	}
	out := &metav1.PartialObjectMetadata{TypeMeta: n.TypeMeta}
	out.Name, out.ResourceVersion, out.Labels, out.Annotations = n.Name, n.ResourceVersion, n.Labels, n.Annotations
	delete(out.Annotations, "kubectl.kubernetes.io/last-applied-configuration")
	return out, nil
}

// describe is a pod as package mesh is told it.
func (c *Client) describe(p *corev1.Pod) mesh.Pod {
	m := mesh.Pod{Namespace: p.Namespace, Name: p.Name, UID: string(p.UID), Annotations: p.Annotations}
	if m.Annotations == nil {
		m.Annotations = map[string]string{}
	}
	m.Spec = &mesh.Spec{Labels: p.Labels, HostNetwork: p.Spec.HostNetwork}
	if p.Spec.RuntimeClassName != nil {
		m.Spec.RuntimeClass = *p.Spec.RuntimeClassName
	}
	if o, known, err := c.namespaces.GetStore().GetByKey(p.Namespace); err == nil && known {
		if n, is := o.(*metav1.PartialObjectMetadata); is {
			m.Spec.NamespaceLabels, m.Spec.NamespaceAnnotations = n.Labels, n.Annotations
		}
	}
	for i, all := range [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for _, container := range all {
			m.Spec.Containers = append(m.Spec.Containers, describeContainer(container, i == 0))
		}
	}
	return m
}

func describeContainer(c corev1.Container, init bool) mesh.Container {
	out := mesh.Container{Name: c.Name, Init: init, Args: c.Args, Env: map[string]string{}}
	for _, v := range c.Env {
		out.Env[v.Name] = v.Value
	}
	if s := c.SecurityContext; s != nil {
		out.RunAsUser, out.RunAsGroup = s.RunAsUser, s.RunAsGroup
	}
	return out
}

// same reports whether two versions of an object tell the same.
func same(before, now any) bool {
	return reflect.DeepEqual(withoutVersion(before), withoutVersion(now))
}

// withoutVersion is a kept object without the version that every change of it has.
func withoutVersion(o any) any {
	switch o := o.(type) {
	case *corev1.Pod:
		p := *o
		p.ResourceVersion = ""
		return p
	case *metav1.PartialObjectMetadata:
		n := *o
		n.ResourceVersion = ""
		return n
	}
	return o
}
