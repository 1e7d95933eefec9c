// SPDX-License-Identifier: Apache-2.0

//go:build linux

package cni

import (
	"context"
	"encoding/json"
	"fmt"
	"io"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/version"
	"github.com/weir-mesh/weir/internal/mesh"
	programversion "github.com/weir-mesh/weir/internal/version"
)

// Versions are those of the specification that the plugin speaks.
func Versions() []string { return []string{"0.3.1", "0.4.0", "1.0.0", "1.1.0"} }

// Program is what the program that is the plugin brings.
type Program struct {
	Out io.Writer // results and errors, as the specification wants them
	Err io.Writer // what the runtime's log may tell

	// Pod asks an API server for a pod, by a kubeconfig. nil: the program has no client of one, which
	// would make it a quarter larger.
	Pod func(ctx context.Context, kubeconfig, namespace, name string) (mesh.Pod, error)
}

// plugin is the plugin at work.
type plugin struct {
	Program
	ctx context.Context
}

// Run answers the call that the environment and standard input are, and reports whether it succeeded.
func Run(ctx context.Context, program Program) bool {
	p := &plugin{program, ctx}
	e := skel.PluginMainFuncsWithError(skel.CNIFuncs{
		Add:    p.with((*plugin).add),
		Check:  p.with((*plugin).check),
		Del:    p.del,
		GC:     p.with((*plugin).gc),
		Status: p.with((*plugin).status),
	}, version.PluginSupports(Versions()...), fmt.Sprintf("weir %s, a CNI plugin: see docs/cni.md (weir cni install puts it into a node's network list)", programversion.String()))
	if e == nil {
		return true
	}
	text, wrong := json.Marshal(e)
	if wrong == nil {
		_, wrong = p.Out.Write(append(text, '\n'))
	}
	if wrong != nil {
		fmt.Fprintln(p.Err, e)
	}
	return false
}

// with is a verb that is given its request, and time.
func (p *plugin) with(verb func(*plugin, context.Context, *request) error) func(*skel.CmdArgs) error {
	return func(args *skel.CmdArgs) error {
		r, err := readRequest(args)
		if err != nil {
			return types.NewError(types.ErrDecodingFailure, line(fmt.Sprintf("the configuration of %s: %v", Type, err)), "")
		}
		ctx, cancel := context.WithTimeoutCause(p.ctx, r.settings.timeout, fmt.Errorf("it took longer than %s", r.settings.timeout))
		defer cancel()
		if err := verb(p, ctx, r); err != nil {
			return asFailure(err)
		}
		return nil
	}
}

func (p *plugin) warn(format string, args ...any) {
	fmt.Fprintf(p.Err, "%s: %s\n", Type, line(fmt.Sprintf(format, args...)))
}
