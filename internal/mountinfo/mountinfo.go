// SPDX-License-Identifier: Apache-2.0

// Package mountinfo reads proc_pid_mountinfo(5).
package mountinfo

import (
	"bytes"
	"strconv"
	"strings"
)

// Mount is one line of it.
type Mount struct {
	ID           uint64
	Major, Minor uint32   // of the device
	Root         string   // the folder of the file system that is the mount's top
	Point        string   // where it is seen
	Type         string   // of the file system
	Options      []string // of the file system
}

// Parse reads lines; those that are cut short or not understood are left out.
func Parse(text []byte) (out []Mount) {
	for line := range bytes.Lines(text) {
		before, after, _ := strings.Cut(string(line), " - ")
		fields, of := strings.Fields(before), strings.Fields(after)
		if len(fields) < 5 || len(of) < 3 {
			continue
		}
		id, errID := strconv.ParseUint(fields[0], 10, 64)
		major, minor, _ := strings.Cut(fields[2], ":")
		x, errMajor := strconv.ParseUint(major, 10, 32)
		y, errMinor := strconv.ParseUint(minor, 10, 32)
		if errID != nil || errMajor != nil || errMinor != nil {
			continue
		}
		out = append(out, Mount{id, uint32(x), uint32(y), unescape(fields[3]), unescape(fields[4]), of[0], strings.Split(of[2], ",")})
	}
	return out
}

// unescape turns the octal escapes of blanks and backslashes back.
func unescape(path string) string {
	head, rest, escaped := strings.Cut(path, `\`)
	if !escaped {
		return path
	}
	var b strings.Builder
	b.WriteString(head)
	for part := range strings.SplitSeq(rest, `\`) {
		if len(part) >= 3 {
			if code, err := strconv.ParseUint(part[:3], 8, 8); err == nil {
				b.WriteByte(byte(code))
				b.WriteString(part[3:])
				continue
			}
		}
		b.WriteString(`\` + part)
	}
	return b.String()
}
