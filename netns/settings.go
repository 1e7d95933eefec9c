// SPDX-License-Identifier: Apache-2.0

//go:build linux

package netns

import (
	"bytes"
	"errors"
	"io/fs"

	"github.com/weir-mesh/weir/sim"
	"golang.org/x/sys/unix"
)

// hostSettings reads, of the calling thread's namespace, the settings that hold for all its
// interfaces beside their own, which netlink does not tell. Where there is no /proc they are
// taken to be as the kernel makes them.
func hostSettings(h *sim.Host) error {
	for key, of := range map[string]func(*sim.Link) *bool{
		"route_localnet": func(l *sim.Link) *bool { return &l.Localnet },
		"accept_local":   func(l *sim.Link) *bool { return &l.AcceptLocal },
		"src_valid_mark": func(l *sim.Link) *bool { return &l.SourceMark },
	} {
		text, err := readSetting(sysctls + "net/ipv4/conf/all/" + key)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if len(text) == 0 || string(text) == "0" {
			continue
		}
		for i := range h.Links {
			*of(&h.Links[i]) = true
		}
	}
	return nil
}

// readSetting reads a small file of /proc, without the space around its text, by three calls
// of the kernel where os.ReadFile takes nine.
func readSetting(path string) ([]byte, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	text := make([]byte, 256)
	n, err := unix.Read(fd, text)
	if err != nil {
		return nil, &fs.PathError{Op: "read", Path: path, Err: err}
	}
	return bytes.TrimSpace(text[:n]), nil
}
