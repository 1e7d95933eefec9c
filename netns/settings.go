// SPDX-License-Identifier: Apache-2.0

//go:build linux

package netns

import (
	"bytes"
	"errors"
	"io/fs"

	"github.com/weir-mesh/weir/internal/proc"
	"github.com/weir-mesh/weir/sim"
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
		text, err := proc.Read(sysctls + "net/ipv4/conf/all/" + key)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if text = bytes.TrimSpace(text); len(text) == 0 || string(text) == "0" {
			continue
		}
		for i := range h.Links {
			*of(&h.Links[i]) = true
		}
	}
	return nil
}
