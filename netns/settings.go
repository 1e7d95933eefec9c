// SPDX-License-Identifier: Apache-2.0

//go:build linux

package netns

import (
	"errors"
	"io/fs"
	"os"
	"strings"

	"github.com/weir-mesh/weir/sim"
)

// hostSettings reads, of the calling thread's namespace, the settings of interfaces
// that netlink does not tell. Where there is no /proc they are taken to be as the
// kernel makes them.
func hostSettings(h *sim.Host) error {
	isSet := func(link, key string) (bool, error) {
		text, err := os.ReadFile("/proc/sys/net/ipv4/conf/" + link + "/" + key)
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		return strings.TrimSpace(string(text)) == "1", err
	}
	for i := range h.Links {
		l := &h.Links[i]
		for key, into := range map[string]*bool{"route_localnet": &l.Localnet, "accept_local": &l.AcceptLocal, "src_valid_mark": &l.SourceMark} {
			for _, of := range []string{"all", l.Name} { // either is enough
				yes, err := isSet(of, key)
				if err != nil {
					return err
				}
				*into = *into || yes
			}
		}
	}
	return nil
}
