package pods

import (
	"bufio"
	"bytes"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// mount is where a cgroup hierarchy, or a part of it, can be seen.
type mount struct {
	device  uint64
	root    string   // the cgroup that is seen as the mount's top, from this program's cgroup namespace
	point   string   // in this program's file system
	v2      bool     // else
	options []string // the controllers of a hierarchy of v1, or its name
}

// mountsOf are the cgroup mounts of a proc_pid_mountinfo(5).
func mountsOf(mountinfo []byte) []mount {
	var out []mount
	for lines := bufio.NewScanner(bytes.NewReader(mountinfo)); lines.Scan(); {
		before, after, _ := strings.Cut(lines.Text(), " - ")
		fields, kind := strings.Fields(before), strings.Fields(after)
		if len(fields) < 5 || len(kind) < 3 || kind[0] != "cgroup" && kind[0] != "cgroup2" {
			continue
		}
		major, minor, _ := strings.Cut(fields[2], ":")
		x, err1 := strconv.ParseUint(major, 10, 32)
		y, err2 := strconv.ParseUint(minor, 10, 32)
		if err1 != nil || err2 != nil {
			continue
		}
		out = append(out, mount{unix.Mkdev(uint32(x), uint32(y)), unescape(fields[3]), unescape(fields[4]), kind[0] == "cgroup2", strings.Split(kind[2], ",")})
	}
	return out
}

// CgroupMount finds where cgroup v2 is mounted in a proc_pid_mountinfo(5), "" where
// it is not.
func CgroupMount(mountinfo []byte) string {
	for _, m := range mountsOf(mountinfo) {
		if m.v2 {
			return m.point
		}
	}
	return ""
}

// shows reports whether the mount is one of the hierarchy that a line of
// proc_pid_cgroup(5) names: "" for v2, else controllers, or name=systemd.
func (m mount) shows(hierarchy string) bool {
	if hierarchy == "" || m.v2 {
		return m.v2 && hierarchy == ""
	}
	for controller := range strings.SplitSeq(hierarchy, ",") {
		if !slices.Contains(m.options, controller) {
			return false
		}
	}
	return true
}

// folder is where the mount shows a cgroup, false where it does not. A path that
// leads up ("/..") is that of a cgroup outside of this program's cgroup namespace.
func (m mount) folder(cgroup string) (string, bool) {
	if m.root != "/" {
		below, ok := strings.CutPrefix(cgroup, m.root)
		if !ok || below != "" && below[0] != '/' {
			return "", false
		}
		cgroup = below
	}
	if slices.Contains(strings.Split(cgroup, "/"), "..") {
		return "", false
	}
	return filepath.Join(m.point, cgroup), true
}

// unescape turns the octal escapes of mountinfo back: blanks, and backslashes.
func unescape(path string) string {
	parts := strings.Split(path, `\`)
	for i, p := range slices.Backward(parts) {
		if i == 0 || len(p) < 3 {
			continue
		}
		if code, err := strconv.ParseUint(p[:3], 8, 8); err == nil {
			parts[i] = string([]byte{byte(code)}) + p[3:]
		}
	}
	return strings.Join(parts, "")
}
