// SPDX-License-Identifier: Apache-2.0

package mesh

import "slices"

// Pod is what is known of a pod.
type Pod struct {
	Namespace, Name, UID string

	Annotations map[string]string
	Spec        *Spec // nil: only the annotations are known

	// Enrolled is why the pod is known to be in the ambient mesh, "" where it is not, or that is not
	// known. It counts where there is no Spec.
	Enrolled string

	// Consul is Nomad's argument CONSUL_IPTABLES_CONFIG, "" where there is none.
	Consul string
}

// String is the pod as kubectl names it.
func (p Pod) String() string {
	switch {
	case p.Namespace == "" && p.Name == "":
		return "this container"
	case p.Namespace == "":
		return "container " + p.Name
	}
	return "pod " + p.Namespace + "/" + p.Name
}

// Spec is what the API server knows of a pod beyond its annotations.
type Spec struct {
	Labels               map[string]string
	NamespaceLabels      map[string]string
	NamespaceAnnotations map[string]string
	Containers           []Container // init containers included
	RuntimeClass         string
	HostNetwork          bool
}

// Container is a container of a pod.
type Container struct {
	Name                  string
	Init                  bool
	Args                  []string
	Env                   map[string]string
	RunAsUser, RunAsGroup *int64 // nil: the image's
}

// container is the container of that name; nil where there is none, or none is known.
func (p Pod) container(name string) *Container {
	if p.Spec == nil {
		return nil
	}
	i := slices.IndexFunc(p.Spec.Containers, func(c Container) bool { return c.Name == name })
	if i < 0 {
		return nil
	}
	return &p.Spec.Containers[i]
}

// label is a label of the pod, "" where it is not known.
func (p Pod) label(name string) string {
	if p.Spec == nil {
		return ""
	}
	return p.Spec.Labels[name]
}

// annotation is an annotation of the pod or, for meshes that look there too, of its namespace: for those an
// empty one is as good as none.
func (p Pod) annotation(name string, namespaceToo bool) (value string, set bool) {
	value, set = p.Annotations[name]
	if !namespaceToo || value != "" {
		return value, set
	}
	if p.Spec != nil {
		value = p.Spec.NamespaceAnnotations[name]
	}
	return value, value != ""
}
