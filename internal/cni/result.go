// SPDX-License-Identifier: Apache-2.0

//go:build linux

package cni

import (
	"encoding/json"
	"fmt"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/types/create"
)

// passOn writes the result of the plugins before: as it is where it is of the list's version, as runtimes
// pass it. A plugin that is the first in its list has an empty one.
func (p *plugin) passOn(r *request) error {
	if len(r.prevResult) == 0 {
		return p.write(&types100.Result{CNIVersion: types100.ImplementedSpecVersion}, r.version)
	}
	var previous result
	if json.Unmarshal(r.prevResult, &previous) == nil && previous.CNIVersion == r.version {
		_, err := p.Out.Write(r.prevResult)
		return err
	}
	converted, err := create.CreateFromBytes(r.prevResult)
	if err != nil {
		return types.NewError(types.ErrDecodingFailure, line(fmt.Sprintf("prevResult: %v", err)), "")
	}
	return p.write(converted, r.version)
}

func (p *plugin) write(result types.Result, version string) error {
	asked, err := result.GetAsVersion(version)
	if err != nil {
		return err
	}
	return asked.PrintTo(p.Out)
}
