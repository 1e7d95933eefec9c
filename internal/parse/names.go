// SPDX-License-Identifier: Apache-2.0

package parse

import "strings"

// IfName is an interface's name or wildcard as nft has it, with an asterisk for
// iptables' plus: eth+ is eth*, and all, + and * are *. It is not checked.
func IfName(word string) string {
	if IsAll(word) {
		return "*"
	}
	if stem, isWildcard := strings.CutSuffix(word, "+"); isWildcard {
		return stem + "*"
	}
	return word
}

// Matches reports whether an interface is meant by a name or wildcard of [IfName].
func Matches(ifName, name string) bool {
	stem, isWildcard := strings.CutSuffix(ifName, "*")
	return name == ifName || isWildcard && strings.HasPrefix(name, stem)
}

// CgroupPath is a cgroup's path below the root as it is looked up, without slashes at
// its ends; "" where the word is not such a path.
func CgroupPath(word string) string {
	path := strings.Trim(word, "/")
	for part := range strings.SplitSeq(path, "/") {
		if part == "" || part == "." || part == ".." {
			return ""
		}
	}
	return path
}
