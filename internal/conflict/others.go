// SPDX-License-Identifier: Apache-2.0

package conflict

import (
	"strings"

	"github.com/weir-mesh/weir/internal/escape"
)

// engines are other programs that capture beside the state.
func (j *judge) engines() (out []Conflict) {
	for _, e := range j.seen.Engines {
		if !e.Rules { // a policy rule that was left behind captures nothing
			continue
		}
		out = append(out, Conflict{Kind: OtherEngine, Subject: e.Name, Does: "captures here too: " + strings.Join(e.Signs, "; "),
			Remedy: "remove its rules by its own clean-up, or delete the pod: two engines capture each other's traffic"})
	}
	return out
}

// Programs judges programs on the cgroup's connect hooks: they may change where connections go
// before any rule sees them.
func Programs(all []Program) []Conflict {
	var names []string
	for _, p := range all {
		name := escape.Text(p.Attach)
		if p.Name != "" {
			name += " " + escape.Text(p.Name)
		}
		names = append(names, name)
	}
	if len(names) == 0 {
		return nil
	}
	return []Conflict{{Kind: ConnectProgram, May: true, Subject: "programs on the cgroup's connect hook (" + strings.Join(names, ", ") + ")", Owner: programOwner(all),
		Does:   "may change where connections go before any rule sees them: the proxy sees the new destination, and exclusions by a service's address miss",
		Remedy: "exclude the addresses of the service's endpoints, or keep socket-level load balancing to the host (Cilium: socketLB.hostNamespaceOnly: true)"}}
}

// programOwner is whose the programs are, by the prefixes that their makers use.
func programOwner(all []Program) string {
	for _, p := range all {
		for prefix, owner := range map[string]string{"cil_": "cilium", "cali_": "calico", "calico_": "calico", "sd_": "systemd"} {
			if strings.HasPrefix(p.Name, prefix) {
				return owner
			}
		}
	}
	return ""
}
