package mesh

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/weir-mesh/weir/internal/term"
	"github.com/weir-mesh/weir/modes"
)

// Kuma's annotations.
const (
	kumaInjected = "kuma.io/sidecar-injected" // written by the injector
	kumaOn       = "kuma.io/transparent-proxying"
	kumaConfig   = "traffic.kuma.io/transparent-proxy-config" // a whole configuration of Kuma's, written by the injector
	kumaGateway  = "kuma.io/gateway"
	kumaUID      = "kuma.io/sidecar-uid"
	kumaFamily   = "kuma.io/transparent-proxying-ip-family-mode"

	kumaSkipInbound     = "traffic.kuma.io/exclude-inbound-ports"
	kumaSkipOutbound    = "traffic.kuma.io/exclude-outbound-ports"
	kumaSkipInboundIPs  = "traffic.kuma.io/exclude-inbound-ips"
	kumaSkipOutboundIPs = "traffic.kuma.io/exclude-outbound-ips"
	kumaSkipForUIDs     = "traffic.kuma.io/exclude-outbound-ports-for-uids"
	kumaDropInvalid     = "traffic.kuma.io/drop-invalid-packets"
)

var kumaNames = map[modes.Ref]string{
	{Key: "inbound.excludePorts"}:   kumaSkipInbound,
	{Key: "outbound.excludePorts"}:  kumaSkipOutbound,
	{Key: "inbound.excludeSources"}: kumaSkipInboundIPs,
	{Key: "outbound.excludeCIDRs"}:  kumaSkipOutboundIPs,
	{Key: "outbound.exclude.uids"}:  kumaSkipForUIDs,
	{Key: "outbound.exclude.ports"}: kumaSkipForUIDs,
	{Key: "proxy.uids"}:             kumaUID,
}

func kumaWants(p Pod) string {
	injected := istrue(p.Annotations[kumaInjected])
	on, said := p.Annotations[kumaOn]
	switch {
	case !injected && p.container("kuma-sidecar") == nil:
		return notOfIt
	case p.container("kuma-init") != nil:
		return "its container kuma-init does it"
	case p.Spec != nil && p.container("kuma-sidecar") == nil:
		return "it has no container kuma-sidecar"
	case !injected:
		return "annotation " + kumaInjected + " is missing"
	case said && !istrue(on):
		return "annotation " + kumaOn + " is " + term.Shorten(on)
	case !said && p.Annotations[kumaConfig] == "":
		return "it has neither annotation " + kumaConfig + " nor " + kumaOn
	}
	return ""
}

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
	for _, item := range items {
		switch item := item.(type) {
		case string:
			*w = append(*w, split(item)...)
		case float64:
			*w = append(*w, strconv.FormatFloat(item, 'f', -1, 64))
		case nil:
		default:
			return fmt.Errorf("%s is not a list of words", term.Shorten(string(text)))
		}
	}
	return nil
}

// kumaWord is a word that Kuma writes as a number or as a text.
type kumaWord = kumaWords

type kumaFlow struct {
	Enabled             *bool     `json:"enabled"`
	Port                kumaWord  `json:"port"`
	IncludePorts        kumaWords `json:"includePorts"`
	ExcludePorts        kumaWords `json:"excludePorts"`
	ExcludePortsForUIDs []string  `json:"excludePortsForUIDs"` // whose ports have commas
	ExcludePortsForIPs  kumaWords `json:"excludePortsForIPs"`
}

type kumaDocument struct {
	User     kumaWord `json:"kumaDPUser"`
	Redirect struct {
		Inbound  kumaFlow `json:"inbound"`
		Outbound kumaFlow `json:"outbound"`
		DNS      struct {
			Enabled    bool     `json:"enabled"`
			Port       kumaWord `json:"port"`
			CaptureAll bool     `json:"captureAll"`
			SkipZones  bool     `json:"skipConntrackZoneSplit"`
		} `json:"dns"`
		VNet struct {
			Networks kumaWords `json:"networks"`
		} `json:"vnet"`
	} `json:"redirect"`
	DropInvalid *bool  `json:"dropInvalidPackets"`
	Family      string `json:"ipFamilyMode"`
}

func readKuma(r *reading) {
	c := &r.Config
	if text, set := r.value(kumaConfig); set && text != "" {
		r.readKumaDocument(text)
	}
	if id, set := r.number(kumaUID, "user id", 0, maxID); set {
		c.Proxy.UIDs = []string{id}
	}
	if gateway, set := r.value(kumaGateway); set && gateway == "enabled" {
		c.Inbound.Via = "none"
	}
	if family, set := r.value(kumaFamily); set {
		r.kumaFamily(kumaFamily, family)
	}
	r.ports(kumaSkipInbound, &c.Inbound.ExcludePorts)
	r.ports(kumaSkipOutbound, &c.Outbound.ExcludePorts)
	r.words(kumaSkipInboundIPs, &c.Inbound.ExcludeSources)
	r.words(kumaSkipOutboundIPs, &c.Outbound.ExcludeCIDRs)
	if text, set := r.value(kumaSkipForUIDs); set {
		c.Outbound.Exclude = r.kumaExclusions(kumaSkipForUIDs, strings.Split(text, ";"))
	}
	if drop, set := r.yes(kumaDropInvalid); set {
		c.DropInvalid = pick(drop, "enabled", "disabled")
	}
	if c.DNS.Capture != "" && c.DNS.Capture != "none" {
		c.Outbound.Exclude = append(c.Outbound.Exclude, modes.Excluded{Protocol: "tcp", Ports: []modes.PortWord{"53"}}) // as the reference leaves it alone
	}
	// excluded ports count only where none are included, as in the reference
	if len(c.Inbound.IncludePorts) > 0 && !isAll(c.Inbound.IncludePorts) || c.Inbound.Via == "none" {
		c.Inbound.ExcludePorts = nil
	}
	if len(c.Outbound.IncludePorts) > 0 {
		c.Outbound.ExcludePorts = nil
	}
	if c.Outbound.Via == "none" {
		c.Proxy.OwnCalls = "left"
	}
}

// readKumaDocument reads the whole configuration, of which only what changes the capture counts here.
func (r *reading) readKumaDocument(text string) {
	r.document = kumaConfig
	document, err := yaml.YAMLToJSON([]byte(text))
	var k kumaDocument
	if err == nil {
		err = json.Unmarshal(document, &k)
	}
	if err != nil {
		line, _, _ := strings.Cut(err.Error(), "\n")
		r.problem(kumaConfig, "%s (want a configuration of Kuma's transparent proxy)", line)
		return
	}
	c := &r.Config
	if len(k.User) > 0 {
		c.Proxy.UIDs = k.User[:1]
	}
	k.Redirect.Inbound.read(&c.Inbound.Via, &c.Inbound.Port, &c.Inbound.IncludePorts, &c.Inbound.ExcludePorts, &c.Inbound.ExcludeSources)
	k.Redirect.Outbound.read(&c.Outbound.Via, &c.Outbound.Port, &c.Outbound.IncludePorts, &c.Outbound.ExcludePorts, &c.Outbound.ExcludeCIDRs)
	if len(c.Outbound.IncludePorts) > 0 {
		c.Outbound.IncludeCIDRs = []string{}
	}
	c.Outbound.Exclude = r.kumaExclusions(kumaConfig, k.Redirect.Outbound.ExcludePortsForUIDs)
	dns := k.Redirect.DNS
	switch {
	case dns.Enabled && dns.CaptureAll:
		c.DNS.Capture = "all"
	case dns.Enabled:
		c.DNS.Capture = "servers"
	}
	if len(dns.Port) > 0 {
		c.DNS.Port = modes.PortWord(dns.Port[0])
	}
	if dns.SkipZones {
		c.DNS.Zones = "disabled"
	}
	for _, network := range k.Redirect.VNet.Networks {
		r.kumaNetwork(network)
	}
	if k.DropInvalid != nil {
		c.DropInvalid = pick(*k.DropInvalid, "enabled", "disabled")
	}
	r.kumaFamily(kumaConfig, k.Family)
}

func (f kumaFlow) read(via *string, port *modes.PortWord, include, exclude *[]modes.PortWord, addresses *[]string) {
	if f.Enabled != nil && !*f.Enabled {
		*via = "none"
	}
	if len(f.Port) > 0 {
		*port = modes.PortWord(f.Port[0])
	}
	if len(f.IncludePorts) > 0 {
		*include = portWords(f.IncludePorts)
	}
	if len(f.ExcludePorts) > 0 {
		*exclude = portWords(f.ExcludePorts)
	}
	if len(f.ExcludePortsForIPs) > 0 {
		*addresses = f.ExcludePortsForIPs
	}
}

func (r *reading) kumaFamily(annotation, family string) {
	switch family {
	case "", "dualstack":
	case "ipv4":
		r.Config.IPv6 = "disabled"
	default:
		r.problem(annotation, "%q is not a family (want dualstack or ipv4)", term.Shorten(family))
	}
}

// kumaNetwork reads a virtual network, INTERFACE:CIDR: what comes from the interface to elsewhere is treated
// as outbound, its queries too.
func (r *reading) kumaNetwork(word string) {
	name, prefix, found := strings.Cut(word, ":")
	p, err := netip.ParsePrefix(prefix)
	if !found || err != nil {
		r.problem(kumaConfig, "redirect.vnet.networks: %q is not INTERFACE:CIDR", term.Shorten(word))
		return
	}
	family := "ipv6"
	if p.Addr().Is4() {
		family = "ipv4"
	}
	r.Config.Interfaces.Reroute = append(r.Config.Interfaces.Reroute, modes.Rerouted{
		Name: name, ExcludeCIDRs: []string{prefix}, DNS: "enabled", Family: family, Exclusions: "ignored"})
}

// kumaExclusions reads [PROTOCOL:]PORTS:USERS, or users alone, of each entry.
func (r *reading) kumaExclusions(annotation string, entries []string) (out []modes.Excluded) {
	for i, entry := range entries {
		words := strings.Split(strings.TrimSpace(entry), ":")
		var e modes.Excluded
		switch len(words) {
		case 3:
			e.Protocol, words = words[0], words[1:]
			fallthrough
		case 2:
			if words[0] != "*" && words[0] != "" {
				e.Ports = portWords(split(words[0]))
			}
			words = words[1:]
			fallthrough
		case 1:
			e.UIDs = split(words[0])
		}
		switch {
		case strings.TrimSpace(entry) == "":
			continue
		case len(e.UIDs) != 1 || !slices.Contains([]string{"", "*", "tcp", "udp"}, e.Protocol):
			r.problem(annotation, "entry %d: %q is not [PROTOCOL:]PORTS:USER (want such as tcp:80,8000-8100:1000)", i+1, term.Shorten(entry))
			continue
		case e.Protocol == "*":
			e.Protocol = ""
		}
		out = append(out, e)
	}
	return out
}
