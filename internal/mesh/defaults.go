// SPDX-License-Identifier: Apache-2.0

package mesh

import (
	"slices"

	"github.com/weir-mesh/weir/internal/mesh/options"
	"github.com/weir-mesh/weir/modes"
)

// Default is the configuration of a mesh's pods that say nothing else.
func Default(name string) modes.Config {
	switch name {
	case Istio:
		return options.IstioDefaults()
	case Linkerd:
		return options.LinkerdDefaults()
	case Kuma:
		return options.KumaDefaults()
	case Consul, Nomad:
		return options.ConsulDefaults()
	}
	return modes.Config{}
}

// defaults are those of the mesh with what the node's operator decided.
func (r Rules) defaults(name string) modes.Config {
	return Overlay(Default(name), r.Defaults[name])
}

// Overlay is a configuration in which the keys that another one sets have its values.
func Overlay(base, over modes.Config) modes.Config {
	for _, k := range modes.Keys() {
		switch words, set := k.Get(&over); {
		case !set:
		case len(k.Items) > 0:
			k.Set(&base)
			for _, item := range k.GetItems(&over) {
				k.AddItem(&base, item)
			}
		default:
			k.Set(&base, slices.Clone(words)...)
		}
	}
	return base
}
