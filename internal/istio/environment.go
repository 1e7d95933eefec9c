// SPDX-License-Identifier: Apache-2.0

//go:build linux

package istio

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"
	"github.com/weir-mesh/weir/internal/term"
)

// Variables that no flag has.
const (
	ownerGroups        = "ISTIO_OUTBOUND_OWNER_GROUPS"
	ownerGroupsExclude = "ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE"
	loopbackCIDR       = "ISTIO_OUTBOUND_IPV4_LOOPBACK_CIDR"
	proxyUser          = "ENVOY_USER"
	dryRunFile         = "DRY_RUN_FILE_PATH" // to which a dry run writes its plan too
	markMask           = "WEIR_MARK_MASK"    // of TPROXY's marks; not the reference's

	// What captures without connection tracking, and how its proxy's packets are marked; not
	// the reference's.
	conntrackUse = "WEIR_CONNTRACK"
	proxyMark    = "WEIR_PROXY_MARK"
	resetOpen    = "WEIR_RESET_OPEN" // a bool: whether a first apply may reset open connections
)

var variablesWithoutFlag = []string{ownerGroups, ownerGroupsExclude, loopbackCIDR, proxyUser, dryRunFile, markMask, conntrackUse, proxyMark, resetOpen}

// flagsWithoutVariable are flags that no variable sets.
var flagsWithoutVariable = []string{"envoy-port", "log_output_level", "log_as_json", "log_target", "log_stacktrace_level", "log_caller", "vklog", "print-config", "help"}

// furtherVariables are variables that win over a flag's own.
var furtherVariables = map[string]string{
	"redirect-dns": "ISTIO_META_DNS_CAPTURE",
	"drop-invalid": "INVALID_DROP",
	"dual-stack":   "ISTIO_DUAL_STACK",
}

// variablesOf are the variables that set a flag, the last one winning.
func variablesOf(flag string) []string {
	if slices.Contains(flagsWithoutVariable, flag) {
		return nil
	}
	names := []string{strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))}
	if further := furtherVariables[flag]; further != "" {
		names = append(names, further)
	}
	return names
}

// variable is the value of a variable, "" where it is not set.
func (a *Arguments) variable(name string) string {
	value, _ := a.lookup(name)
	return value
}

func (a *Arguments) readVariables(f *pflag.Flag) {
	for _, name := range variablesOf(f.Name) {
		if value, set := a.lookup(name); set {
			a.readVariable(f, name, value)
		}
	}
}

// readVariable sets a flag from a variable. A value that does not parse turns a
// switch off, whatever an earlier variable said, as in the reference; it leaves
// other flags as they are.
func (a *Arguments) readVariable(f *pflag.Flag, name, value string) {
	before, kind := f.Value.String(), f.Value.Type()
	if value == "" && kind != "bool" || f.Value.Set(value) == nil {
		return
	}
	if kind == "bool" { // the library has zeroed it
		if before == "true" || value != "" {
			a.unread = append(a.unread, fmt.Sprintf("%s=%q is not a bool: %s is off, as in the reference", name, term.Shorten(value), f.Name))
		}
		return
	}
	_ = f.Value.Set(before)
	a.unread = append(a.unread, fmt.Sprintf("%s=%q is ignored: it is not a %s", name, term.Shorten(value), kind))
}

// Variables are the variables that count and are set, such as PROXY_UID=1337.
func (a *Arguments) Variables() []string {
	var out []string
	add := func(name string) {
		if value, set := a.lookup(name); set {
			out = append(out, name+"="+value)
		}
	}
	a.flags.VisitAll(func(f *pflag.Flag) {
		for _, name := range variablesOf(f.Name) {
			add(name)
		}
	})
	for _, name := range variablesWithoutFlag {
		add(name)
	}
	return out
}

// ResetOpen reports whether a first apply without connection tracking may reset open
// connections.
func (a *Arguments) ResetOpen() bool {
	reset, _ := strconv.ParseBool(a.variable(resetOpen)) // refused reports a word that is none
	return reset
}

// DryRunFile is the file to which a dry run writes its plan too, "" for none.
func (a *Arguments) DryRunFile() (variable, file string) { return dryRunFile, a.variable(dryRunFile) }

// includedGroups are the groups whose traffic is captured. A variable that is set
// and empty includes none of them, as in the reference.
func (a *Arguments) includedGroups() (groups string, every bool) {
	groups, set := a.lookup(ownerGroups)
	return groups, !set || groups == "*"
}
