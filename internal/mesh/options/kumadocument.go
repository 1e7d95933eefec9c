// SPDX-License-Identifier: Apache-2.0

package options

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/weir-mesh/weir/internal/term"
	"github.com/weir-mesh/weir/modes"
)

// kumaWords is a list as Kuma writes it: a text with commas, or a list of numbers or texts.
type kumaWords []string

// UnmarshalJSON takes each of the forms.
func (w *kumaWords) UnmarshalJSON(text []byte) error {
	var items []any
	var one any
	if json.Unmarshal(text, &items) != nil {
		if err := json.Unmarshal(text, &one); err != nil {
			return err
		}
		items = []any{one}
	}
	*w = []string{}
	for _, item := range items {
		switch item := item.(type) {
		case string:
			*w = append(*w, Split(item)...)
		case float64:
			*w = append(*w, strconv.FormatFloat(item, 'f', -1, 64))
		case nil:
		default:
			return fmt.Errorf("%s is not a list of words", term.Shorten(string(text)))
		}
	}
	return nil
}

// first is the word of what is not a list, "" where there is none.
func (w kumaWords) first() string {
	if len(w) == 0 {
		return ""
	}
	return w[0]
}

type kumaDocumentFlow struct {
	Enabled             *bool     `json:"enabled"`
	Port                kumaWords `json:"port"`
	IncludePorts        kumaWords `json:"includePorts"`
	ExcludePorts        kumaWords `json:"excludePorts"`
	ExcludePortsForUIDs []string  `json:"excludePortsForUIDs"` // whose ports have commas
	ExcludePortsForIPs  kumaWords `json:"excludePortsForIPs"`
	Insert              bool      `json:"insertRedirectInsteadOfAppend"`
}

func (f kumaDocumentFlow) options() KumaFlow {
	return KumaFlow{
		Off:     f.Enabled != nil && !*f.Enabled,
		Port:    modes.PortWord(f.Port.first()),
		Include: PortWords(someOf(f.IncludePorts)), Exclude: PortWords(someOf(f.ExcludePorts)), ExcludeIPs: someOf(f.ExcludePortsForIPs),
	}
}

// someOf is nil for an empty list, which a document has where nothing was said.
func someOf(words kumaWords) []string {
	if len(words) == 0 {
		return nil
	}
	return words
}

type kumaDocument struct {
	User     kumaWords `json:"kumaDPUser"`
	Redirect struct {
		Inbound  kumaDocumentFlow `json:"inbound"`
		Outbound kumaDocumentFlow `json:"outbound"`
		DNS      struct {
			Enabled    bool      `json:"enabled"`
			Port       kumaWords `json:"port"`
			CaptureAll bool      `json:"captureAll"`
			SkipZones  bool      `json:"skipConntrackZoneSplit"`
			ResolvConf string    `json:"resolvConfigPath"`
		} `json:"dns"`
		VNet struct {
			Networks kumaWords `json:"networks"`
		} `json:"vnet"`
	} `json:"redirect"`
	DropInvalid *bool  `json:"dropInvalidPackets"`
	Family      string `json:"ipFamilyMode"`
}

// ParseKuma reads a configuration of Kuma's transparent proxy from documents in YAML or JSON, of which only
// what changes the capture counts. What a later document says replaces what an earlier one does.
func ParseKuma(documents ...[]byte) (Kuma, error) {
	var d kumaDocument
	for _, document := range documents {
		text, err := yaml.YAMLToJSON(document)
		if err == nil {
			err = json.Unmarshal(text, &d)
		}
		if err != nil {
			line, _, _ := strings.Cut(err.Error(), "\n")
			return Kuma{}, errors.New(line + " (want a configuration of Kuma's transparent proxy)")
		}
	}
	return d.options(), nil
}

func (d *kumaDocument) options() Kuma {
	o := Kuma{
		UID:            d.User.first(),
		Inbound:        d.Redirect.Inbound.options(),
		Outbound:       d.Redirect.Outbound.options(),
		UserExclusions: d.Redirect.Outbound.ExcludePortsForUIDs,
		InboundUsers:   d.Redirect.Inbound.ExcludePortsForUIDs,
		TCPQueries:     d.Redirect.Outbound.Insert,
		Networks:       d.Redirect.VNet.Networks,
		Family:         d.Family,
		ResolvConf:     d.Redirect.DNS.ResolvConf,
	}
	dns := d.Redirect.DNS
	o.DNS = KumaDNS{Enabled: dns.Enabled, All: dns.CaptureAll, Port: modes.PortWord(dns.Port.first()), NoZones: dns.SkipZones}
	if d.DropInvalid != nil {
		o.DropInvalid = OnOff(*d.DropInvalid)
	}
	return o
}
