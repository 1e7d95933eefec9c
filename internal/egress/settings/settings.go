// SPDX-License-Identifier: Apache-2.0

// Package settings reads the configuration of weir-egress serve: what is watched, which hosts are served, where metrics
// are. It is pure.
package settings

import (
	"bytes"
	"cmp"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/weir-mesh/weir/config"
	"github.com/weir-mesh/weir/internal/egress/metrics"
	"github.com/weir-mesh/weir/internal/egress/virtual"
	"github.com/weir-mesh/weir/internal/problems"
	"github.com/weir-mesh/weir/modes"
)

// Settings are checked.
type Settings struct {
	Watch  *modes.Config // nil: nothing is watched
	Serve  *Serve        // nil: nothing is in the path
	Listen string        // of metrics, "" for none
	Names  string        // of metrics
}

// Serve is what is in the path.
type Serve struct {
	Port     uint16
	DNSPort  uint16
	Upstream []netip.AddrPort // nil: the resolvers of the namespace
	TTL      time.Duration
	Pool     virtual.Pool
	State    string // the file of virtual addresses
	CA       string // a file of certificates that is trusted in place of the system's, "" for these
	Hosts    []Host
	Reroute  []string // interfaces whose traffic is served too: of a gateway

	Untracked bool // captured without connection tracking
	PassQUIC  bool // it passes by, but to virtual addresses
}

// Host is a name, or a wildcard such as *.example.com, which has no virtual address.
type Host struct {
	Name      string
	Originate map[uint16]uint16 // plain HTTP to the first port goes over TLS to the second
}

// wildcard reports whether the host stands for many names.
func (h Host) wildcard() bool { return strings.HasPrefix(h.Name, "*.") }

// document is what people write.
type document struct {
	Version int            `yaml:"version"`
	Mode    string         `yaml:"mode"`
	Table   string         `yaml:"table"`
	Watch   map[string]any `yaml:"watch"`
	Serve   *struct {
		Port uint16 `yaml:"port"`
		DNS  struct {
			Port     uint16   `yaml:"port"`
			Upstream []string `yaml:"upstream"`
			TTL      uint32   `yaml:"ttl"`
		} `yaml:"dns"`
		Virtual struct {
			IPv4  string `yaml:"ipv4"`
			IPv6  string `yaml:"ipv6"`
			State string `yaml:"state"`
		} `yaml:"virtual"`
		CA         string `yaml:"ca"`
		Conntrack  string `yaml:"conntrack"`
		QUIC       string `yaml:"quic"`
		Hosts      []host `yaml:"hosts"`
		Interfaces struct {
			Reroute []string `yaml:"reroute"`
		} `yaml:"interfaces"`
	} `yaml:"serve"`
	Metrics struct {
		Listen string `yaml:"listen"`
		Names  string `yaml:"names"`
	} `yaml:"metrics"`
}

type host struct {
	Name      string            `yaml:"name"`
	Originate map[uint16]uint16 `yaml:"originate"`
}

// The defaults.
const (
	Port         = 15001
	DNSPort      = 15053
	TTL          = 30 * time.Second
	IPv4         = "240.240.0.0/16"
	IPv6         = "2001:2::/48"
	State        = "/run/weir/virtual.json"
	maxHosts     = 10_000
	maxHostBytes = 253
	maxDocument  = 4 << 20
)

// Parse reads a document. The error joins everything that is wrong.
func Parse(name string, text []byte) (Settings, error) {
	var d document
	if len(text) > maxDocument {
		return Settings{}, fmt.Errorf("%s: has %d bytes, more than %d", name, len(text), maxDocument)
	}
	if err := yaml.NewDecoder(bytes.NewReader(text), yaml.Strict()).Decode(&d); err != nil {
		return Settings{}, fmt.Errorf("%s: %s", name, yaml.FormatError(err, false, false))
	}
	r := reader{name: name}
	s := Settings{Listen: d.Metrics.Listen, Names: cmp.Or(d.Metrics.Names, metrics.Istio)}
	if d.Version != 1 {
		r.problem("version", "is %d (want 1)", d.Version)
	}
	if d.Mode != modes.ModeEgress {
		r.problem("mode", "is %q (want %s)", d.Mode, modes.ModeEgress)
	}
	if s.Names != metrics.Istio && s.Names != metrics.OTel {
		r.problem("metrics.names", "%q (want %s or %s)", s.Names, metrics.Istio, metrics.OTel)
	}
	if d.Watch != nil {
		s.Watch = r.watch(d)
	}
	if d.Serve != nil {
		s.Serve = r.serve(d)
	}
	if d.Watch == nil && d.Serve == nil {
		r.problem("serve", "is missing, and watch too: there is nothing to do")
	}
	return s, problems.Join(r.wrong...)
}

type reader struct {
	name  string
	wrong []error
}

func (r *reader) problem(key, format string, args ...any) {
	r.wrong = append(r.wrong, fmt.Errorf("%s: %s: %s", r.name, key, fmt.Sprintf(format, args...)))
}

// watch reads the part of the document that weir's own configuration has.
func (r *reader) watch(d document) *modes.Config {
	part := map[string]any{"version": 1, "mode": modes.ModeEgress, "watch": d.Watch}
	if d.Table != "" {
		part["table"] = d.Table
	}
	text, err := yaml.Marshal(part)
	if err != nil {
		r.problem("watch", "%v", err)
		return nil
	}
	file, err := config.Parse(r.name+": watch", text)
	if err == nil {
		err = modes.Check(file.Config)
	}
	if err != nil {
		r.wrong = append(r.wrong, err)
		return nil
	}
	if file.Config.Watch.By == modes.EgressByPod {
		r.problem("watch.by", "pod is for weir-egress watch --node")
	}
	return &file.Config
}
