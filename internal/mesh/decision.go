// SPDX-License-Identifier: Apache-2.0

package mesh

import (
	"fmt"
	"slices"
	"strings"

	"github.com/weir-mesh/weir/modes"
)

// Outcome is what becomes of a pod.
type Outcome string

const (
	Left     Outcome = "left"     // it is not captured
	Captured Outcome = "captured" // it is captured by a configuration of its own
	Ambient  Outcome = "ambient"  // it is captured for a proxy of the node, which the node's agent knows
)

// Decision is what becomes of a pod, and why.
type Decision struct {
	Outcome Outcome
	By      string // what decided: a mesh, or an annotation
	Reason  string // why the pod is left alone, or is ambient

	Config modes.Config // of a captured pod

	// FirstAddressDecides is that IPv6 is captured only where the pod's first address is one of IPv6, as
	// Istio does it. Otherwise the configuration says.
	FirstAddressDecides bool

	// ProxyContainer is the container whose sockets the node's agent is to give the proxy's mark, since the
	// proxy cannot; "" where it marks them itself.
	ProxyContainer string

	// Explain is an error of the configuration in the words of its author: it names annotations, and
	// places in them.
	Explain func(error) error
}

func leftAlone(by, format string, args ...any) Decision {
	return Decision{Outcome: Left, By: by, Reason: fmt.Sprintf(format, args...)}
}

// The meshes.
const (
	Istio   = "istio"
	Linkerd = "linkerd"
	Kuma    = "kuma"
	Consul  = "consul"
	Nomad   = "nomad"
)

// Names are the meshes in the order in which they are asked.
func Names() []string { return []string{Istio, Linkerd, Kuma, Consul, Nomad} }

// Rules are what the node's operator decided.
type Rules struct {
	ExcludeNamespaces []string                // whose pods no mesh captures
	Off               []string                // meshes whose pods are left alone
	Defaults          map[string]modes.Config // of meshes, in place of those of [Default], key by key
}

// Decide decides about a pod. The error joins a problem for each value that means nothing, of which the
// pod is to know: it asked to be captured, and cannot be.
func (r Rules) Decide(p Pod) (Decision, error) {
	if document, set := p.Annotations[ConfigAnnotation]; set {
		return wholeConfiguration(p, document)
	}
	if _, set := p.Annotations[ProxyContainerAnnotation]; set {
		return Decision{}, withoutConfiguration
	}
	if slices.Contains(r.ExcludeNamespaces, p.Namespace) {
		return leftAlone("", "namespace %s is excluded", p.Namespace), nil
	}
	var found []asked
	var left []string
	readers := meshes()
	for _, m := range Names() {
		if slices.Contains(r.Off, m) {
			continue
		}
		why := readers[m].wants(p)
		switch {
		case why == "":
			found = append(found, asked{m, readers[m]})
		case why != notOfIt:
			left = append(left, m+": "+why)
		}
	}
	switch {
	case len(found) > 1:
		return Decision{}, fmt.Errorf("its annotations are those of %s and of %s (want one mesh, or annotation %s)", found[0].name, found[1].name, ConfigAnnotation)
	case len(found) == 1:
		return found[0].decide(p, r.defaults(found[0].name))
	case len(left) > 0:
		return leftAlone("", "%s", strings.Join(left, "; ")), nil
	}
	if why := ambient(p); why != "" {
		return Decision{Outcome: Ambient, By: Istio, Reason: why}, nil
	}
	return leftAlone("", "no annotation asks for capture"), nil
}

// notOfIt is that a pod is not one of a mesh.
const notOfIt = "-"

// reader is how a mesh's pods are known and read.
type reader struct {
	// wants is "" where the pod is to be captured, notOfIt where it is not the mesh's, and otherwise
	// why it is left alone.
	wants func(Pod) string
	read  func(*reading)
	// names are the annotations for the keys of a configuration.
	names map[modes.Ref]string
}

func meshes() map[string]reader {
	return map[string]reader{
		Istio:   {istioWants, readIstio, istioNames()},
		Linkerd: {linkerdWants, readLinkerd, linkerdNames()},
		Kuma:    {kumaWants, readKuma, kumaNames()},
		Consul:  {consulWants, readConsul, nil},
		Nomad:   {nomadWants, readNomad, nil},
	}
}

// asked is a mesh whose pod it is.
type asked struct {
	name string
	reader
}

func (a asked) decide(p Pod, defaults modes.Config) (Decision, error) {
	r := &reading{pod: p, names: a.names}
	r.Outcome, r.By, r.Config = Captured, a.name, defaults
	r.Explain = r.explain
	a.read(r)
	return r.Decision, r.check()
}
