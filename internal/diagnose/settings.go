// SPDX-License-Identifier: Apache-2.0

//go:build linux

package diagnose

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/weir-mesh/weir/netns"
)

// The settings that are judged: of all interfaces, and of each.
const (
	rpFilter   = "rp_filter"
	validMark  = "src_valid_mark"
	localnet   = "route_localnet"
	confFolder = "net/ipv4/conf/"
)

// judgedSysctls are the settings in force: not those of interfaces to come, nor those of
// lo, by which nothing arrives from elsewhere.
func judgedSysctls(ns *netns.Namespace) (map[string]string, error) {
	values, err := ns.Sysctls(confFolder+"*/"+rpFilter, confFolder+"*/"+validMark, confFolder+"*/"+localnet)
	maps.DeleteFunc(values, func(path, _ string) bool {
		return strings.HasPrefix(path, confFolder+"default/") || strings.HasPrefix(path, confFolder+"lo/")
	})
	return values, err
}

func sysctlChecks(f Facts) []Check {
	if f.cannotInside != nil || len(f.sysctls) == 0 {
		return []Check{{"settings", Skipped, "there is no /proc/sys of this namespace to be read", ""}}
	}
	filter, filterOn := settingCheck(f, rpFilter)
	if filterOn != "" {
		filter.Status = Noted
		filter.Finding += ": what arrives by another interface than its answer would leave by is dropped after prerouting"
		filter.Remedy = fmt.Sprintf("sysctl -w %s=2 where a pod has several interfaces", filterOn)
	}
	mark, markOn := settingCheck(f, validMark)
	if markOn != "" {
		mark.Status = Noted
		mark.Finding += ": what has a mark as it comes in is dropped where a policy rule for the mark delivers it here: with inbound.via tproxy what is for addresses other than the pod's own"
		mark.Remedy = fmt.Sprintf("sysctl -w %s=0 where that is to be captured", markOn)
	}
	route, routeOn := settingCheck(f, localnet)
	if routeOn != "" {
		route.Status = Noted
		route.Finding += ": neighbours on a link reach what listens on 127.0.0.1 here"
		route.Remedy = fmt.Sprintf("sysctl -w %s=0: weir does not need it", routeOn)
	}
	return []Check{filter, mark, route}
}

// settingCheck tells where a setting is on: for all interfaces, or for the last of
// those that have it on; "" where it is not. Of rp_filter the greater of the two holds, so all's 2
// leaves nothing strict (Documentation/networking/ip-sysctl.rst).
func settingCheck(f Facts, name string) (c Check, on string) {
	where := confFolder + "all/" + name
	if f.sysctls[where] == "0" {
		for _, path := range slices.Sorted(maps.Keys(f.sysctls)) {
			if strings.HasSuffix(path, "/"+name) && f.sysctls[path] == "1" {
				where = path
			}
		}
	}
	if f.sysctls[where] == "1" {
		on = dotted(where)
	}
	return Check{name, Passed, dotted(where) + " is " + f.sysctls[where], ""}, on
}

// dotted is a path below /proc/sys as sysctl(8) writes it: dots in an interface's name
// are slashes.
func dotted(path string) string { return strings.NewReplacer("/", ".", ".", "/").Replace(path) }
