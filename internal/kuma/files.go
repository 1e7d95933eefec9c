// SPDX-License-Identifier: Apache-2.0

//go:build linux

package kuma

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	"github.com/weir-mesh/weir/internal/mesh/options"
	"github.com/weir-mesh/weir/internal/term"
	"github.com/weir-mesh/weir/modes"
)

// maxFile is how many bytes of a configuration are read. One that says everything has a few thousand.
const maxFile = 1 << 20

// readFiles reads the configurations that arguments name. What is wrong with the arguments is for their
// parser to say.
func (a *arguments) readFiles(f *pflag.FlagSet, args []string, stdin io.Reader) error {
	var names []string
	_ = f.ParseAll(args, func(flag *pflag.Flag, value string) error {
		if flag.Name == "config" || flag.Name == "config-file" {
			names = append(names, value)
		}
		return nil
	})
	var documents [][]byte
	for _, name := range names {
		document, err := readFile(name, stdin)
		if err == nil {
			_, err = options.ParseKuma(document)
		}
		if err != nil {
			return fmt.Errorf("--config: %s: %w", term.Shorten(name), err)
		}
		documents = append(documents, document)
	}
	o, err := options.ParseKuma(documents...)
	if err == nil && len(documents) > 0 {
		a.take(o)
	}
	return err
}

func readFile(name string, stdin io.Reader) ([]byte, error) {
	if name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer file.Close()
		stdin = file
	}
	document, err := io.ReadAll(io.LimitReader(stdin, maxFile+1))
	if len(document) > maxFile {
		return nil, fmt.Errorf("has more than %d bytes", maxFile)
	}
	return document, err
}

// take has the options of a file in place of the flags' defaults.
func (a *arguments) take(o options.Kuma) {
	a.user, a.family, a.resolvConf = o.UID, cmp.Or(o.Family, a.family), o.ResolvConf
	a.inbound.take(o.Inbound)
	a.outbound.take(o.Outbound)
	a.outbound.uids, a.inbound.uids, a.insertOutbound = o.UserExclusions, o.InboundUsers, o.TCPQueries
	a.dns, a.allDNS, a.noZones = o.DNS.Enabled, o.DNS.All, o.DNS.NoZones
	a.dnsPort = cmp.Or(string(o.DNS.Port), a.dnsPort)
	a.vnet, a.dropInvalid = o.Networks, o.DropInvalid == "enabled"
}

func (d *direction) take(f options.KumaFlow) {
	d.enabled, d.port = !f.Off, cmp.Or(string(f.Port), d.port)
	d.include, d.exclude, d.ips = joined(f.Include), joined(f.Exclude), slices.Clone(f.ExcludeIPs)
}

func joined(ports []modes.PortWord) string {
	words := make([]string, len(ports))
	for i, p := range ports {
		words[i] = string(p)
	}
	return strings.Join(words, ",")
}
