// SPDX-License-Identifier: Apache-2.0

package mesh

import (
	"errors"
	"fmt"
	"slices"

	"github.com/weir-mesh/weir/config"
	"github.com/weir-mesh/weir/internal/problems"
	"github.com/weir-mesh/weir/modes"
)

// ConfigAnnotation holds a whole configuration of weir's, which wins over what meshes say. Mode none
// leaves the pod alone.
const ConfigAnnotation = "weir.dev/config"

// ProxyContainerAnnotation names the container of a proxy that cannot mark its sockets, with a configuration
// of conntrack: none: the node's agent has the container's sockets carry proxy.mark.
const ProxyContainerAnnotation = "weir.dev/proxy-container"

// UnmarkedRemedy is what to do where no agent can do that.
const UnmarkedRemedy = "run the node agent with --nri-socket on a runtime that has NRI, or a proxy that marks its sockets by itself"

var withoutConfiguration = &Problem{ProxyContainerAnnotation, "goes with annotation " + ConfigAnnotation + ", of conntrack: none and proxy.mark"}

// wholeConfiguration decides by the annotation alone.
func wholeConfiguration(p Pod, document string) (Decision, error) {
	file, err := podConfig("", []byte(document))
	d := Decision{Outcome: Captured, By: ConfigAnnotation, Config: file.Config}
	if container, set := p.Annotations[ProxyContainerAnnotation]; set && err == nil && file.Mode != modes.ModeNone {
		d.ProxyContainer = container
		err = proxyContainer(p, container, file.Config)
		if err != nil {
			return d, err
		}
	}
	if err == nil && len(file.Proxy.Cgroups) > 0 { // those of the node are not a pod's to choose
		err = errors.New("proxy.cgroups: is for hosts: in a pod, annotation " + ProxyContainerAnnotation + " names the container whose sockets are to carry proxy.mark")
	}
	if file.Mode == modes.ModeNone {
		d = leftAlone(ConfigAnnotation, "its mode is none")
	}
	d.Explain = func(err error) error { return inAnnotation(file.Explain(err)) }
	return d, inAnnotation(err)
}

// proxyContainer is what is wrong with the name of a pod's proxy container.
func proxyContainer(p Pod, name string, c modes.Config) error {
	switch {
	case c.Conntrack != "none":
		return withoutConfiguration
	case name == "":
		return &Problem{ProxyContainerAnnotation, "is empty (want the name of a container)"}
	case p.Spec != nil && !slices.ContainsFunc(p.Spec.Containers, func(c Container) bool { return c.Name == name }):
		return &Problem{ProxyContainerAnnotation, fmt.Sprintf("the pod has no container %q", name)}
	}
	return nil
}

// inAnnotation is errors of the document as those of the annotation.
func inAnnotation(err error) error {
	var all []error
	for _, e := range problems.List(err) {
		var placed *config.Problem
		if errors.As(e, &placed) && placed.Place.Line > 0 {
			e = &Problem{ConfigAnnotation, fmt.Sprintf("%d:%d: %v", placed.Place.Line, placed.Place.Column, placed.Err)}
		} else {
			e = &Problem{ConfigAnnotation, unplaced(e)}
		}
		all = append(all, e)
	}
	return problems.Join(all...)
}

func unplaced(err error) string {
	var placed *config.Problem
	if errors.As(err, &placed) {
		err = placed.Err
	}
	return err.Error()
}

// PodConfig parses a configuration for a pod: any but one of mode ambient-host, which is the machine's. The
// name is the document's for messages; the error lists every problem with its place.
func PodConfig(name string, document []byte) (modes.Config, error) {
	file, err := podConfig(name, document)
	return file.Config, err
}

func podConfig(name string, document []byte) (*config.File, error) {
	if len(document) > maxValue {
		return &config.File{}, fmt.Errorf("has %d bytes (want at most %d)", len(document), maxValue)
	}
	file, err := config.Parse(name, document)
	if err == nil && file.Mode == modes.ModeAmbientHost {
		err = fmt.Errorf("mode: %q is for the machine's own network namespace (want sidecar, ambient-pod or none)", file.Mode)
	}
	return file, err
}
