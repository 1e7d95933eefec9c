// SPDX-License-Identifier: Apache-2.0

package mesh

import (
	"errors"
	"fmt"

	"github.com/weir-mesh/weir/config"
	"github.com/weir-mesh/weir/internal/problems"
	"github.com/weir-mesh/weir/modes"
)

// ConfigAnnotation holds a whole configuration of weir's, which wins over what meshes say. Mode none
// leaves the pod alone.
const ConfigAnnotation = "weir.dev/config"

// wholeConfiguration decides by the annotation alone.
func wholeConfiguration(document string) (Decision, error) {
	file, err := podConfig("", []byte(document))
	d := Decision{Outcome: Captured, By: ConfigAnnotation, Config: file.Config}
	if file.Mode == modes.ModeNone {
		d = leftAlone(ConfigAnnotation, "its mode is none")
	}
	d.Explain = func(err error) error { return inAnnotation(file.Explain(err)) }
	return d, inAnnotation(err)
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
