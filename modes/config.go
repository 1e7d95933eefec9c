// SPDX-License-Identifier: Apache-2.0

package modes

// Config is what people write, as words: see the configuration reference,
// docs/configuration.md. An empty string and a nil list are absent: the default holds. An
// empty list that is not nil means none. Users and groups are numbers of
// 0-4294967294, ranges of them and names (see [IDs]); destinations are addresses
// and prefixes of both families; yes and no are enabled and disabled. [State]
// reports every word that cannot be read.
//
// The tags are the one place that knows a key: its name, the modes that use it,
// what it means, its default, and under a mode's name the default that is that
// mode's own. Where a key may have a few words only, they stand under words, each
// with the modes that allow it, in brackets, and what it means; what the key means
// then follows on them.
type Config struct {
	Version     string     `key:"version" default:"1" doc:"of this format: 1"`
	Mode        string     `key:"mode" words:"sidecar | ambient-pod | ambient-host | egress | none" doc:" (required)"`
	Table       string     `key:"table" default:"weir" egress:"weir-egress" doc:"the nftables table, of family inet"`
	IPv6        string     `key:"ipv6" modes:"sidecar,ambient-pod,ambient-host,egress" default:"auto" egress:"enabled" words:"auto | enabled | disabled" doc:"; auto is enabled where an interface other than lo has an IPv6 address that is not link-local"`
	Proxy       Proxy      `key:"proxy"`
	Inbound     Inbound    `key:"inbound"`
	Outbound    Outbound   `key:"outbound"`
	DNS         DNS        `key:"dns"`
	UDP         UDP        `key:"udp"`
	Interfaces  Interfaces `key:"interfaces"`
	Loopback    Loopback   `key:"loopback"`
	Probes      Probes     `key:"probes"`
	Conntrack   string     `key:"conntrack" modes:"sidecar" default:"used" words:"used | none both directions by tproxy, told apart by proxy.mark; no connection is tracked" doc:": whether the kernel's connection tracking is used, whose table may fill up"`
	DropInvalid string     `key:"dropInvalid" modes:"sidecar" default:"disabled" words:"disabled | enabled" doc:": drop packets that conntrack calls invalid"`
	Routing     Routing    `key:"routing"`
	Watch       Watch      `key:"watch"`
}

// Proxy says whose traffic is never captured: at least one of its keys.
type Proxy struct {
	UIDs       []string `key:"uids" modes:"sidecar" doc:"the proxy's users: ids, ranges (1000-2000) or names"`
	GIDs       []string `key:"gids" modes:"sidecar" doc:"the proxy's groups: ids, ranges or names"`
	Cgroups    []string `key:"cgroups" modes:"sidecar" doc:"with conntrack: none and assignMark: the proxy's cgroups, paths below the root of cgroup v2"`
	AssignMark string   `key:"assignMark" modes:"sidecar" default:"disabled" words:"disabled | enabled" doc:": a cgroup program gives mark to the sockets that are made in cgroups, for a proxy that cannot; on hosts, not in pods"`
	Mark       MarkWord `key:"mark" modes:"sidecar,ambient-pod" ambient-pod:"0x539/0xfff" doc:"value[/mask] on the proxy's packets; without a mask under routing.mask"`

	OwnCalls string `key:"ownCalls" modes:"sidecar" default:"captured" words:"captured they go through the inbound listener | left" doc:": the proxy's calls to its own pod, over lo"`
}

// Inbound is what comes in for the application.
type Inbound struct {
	Via          string     `key:"via" modes:"sidecar,ambient-pod" default:"redirect" words:"redirect | tproxy [sidecar] | marks [sidecar] captures nothing, but marks and routes as tproxy does | none"`
	Port         PortWord   `key:"port" modes:"sidecar,ambient-pod" default:"15006" doc:"the proxy's inbound listener; of a range the kernel picks one, but with tproxy it is one"`
	TunnelPort   PortWord   `key:"tunnelPort" modes:"sidecar,ambient-pod" default:"15008" doc:"the proxy's own tunnel listener, not redirected; a range or a service too, or none"`
	IncludePorts []PortWord `key:"includePorts" modes:"sidecar" default:"all" doc:"all, or ports, ranges (8000-8100, 9000:) and services (https)"`
	ExcludePorts []PortWord `key:"excludePorts" modes:"sidecar,ambient-pod" doc:"ports left alone where all are included"`

	ExcludeSources []string `key:"excludeSources" modes:"sidecar,ambient-pod" doc:"addresses and prefixes whose connections reach the application as they are"`
}

// Outbound is what the application opens.
type Outbound struct {
	Via          string     `key:"via" modes:"sidecar,ambient-pod" default:"redirect" words:"redirect | tproxy [sidecar] with conntrack: none | none"`
	Port         PortWord   `key:"port" modes:"sidecar,ambient-pod" default:"15001" doc:"the proxy's outbound listener; of a range the kernel picks one"`
	IncludeCIDRs []string   `key:"includeCIDRs" modes:"sidecar" default:"all" doc:"all, or destinations that are captured"`
	ExcludeCIDRs []string   `key:"excludeCIDRs" modes:"sidecar,ambient-pod" doc:"destinations left alone; they win over every include"`
	IncludePorts []PortWord `key:"includePorts" modes:"sidecar" doc:"ports captured whatever includeCIDRs says"`
	ExcludePorts []PortWord `key:"excludePorts" modes:"sidecar,ambient-pod" doc:"ports left alone, TCP and UDP, the proxy's own included"`
	IncludeGIDs  []string   `key:"includeGIDs" modes:"sidecar" default:"all" doc:"all, or groups whose traffic is captured"`
	ExcludeGIDs  []string   `key:"excludeGIDs" modes:"sidecar,ambient-pod" doc:"groups left alone, DNS included"`
	ExcludeUIDs  []string   `key:"excludeUIDs" modes:"sidecar,ambient-pod" doc:"users left alone, DNS included"`
	Exclude      []Excluded `key:"exclude" modes:"sidecar,ambient-pod" doc:"traffic left alone by user, protocol and port together: {uids: [1000], protocol: tcp, ports: [80]}; a word alone is a user"`
	LinkLocal    string     `key:"linkLocal" modes:"sidecar,ambient-pod" default:"left" words:"left | captured" doc:": what is for link-local addresses of IPv6 (fe80::/10), DNS included; a socket that calls one is bound to an interface, by which it does not reach the proxy"`
	OwnPod       string     `key:"ownPod" modes:"sidecar,ambient-pod" default:"left" words:"left | captured" doc:": the application's calls to its own pod's addresses, over lo"`
}

// DNS is the capture of queries.
type DNS struct {
	Capture string   `key:"capture" modes:"sidecar,ambient-pod" default:"none" words:"none | servers [sidecar] | all" doc:": queries to the resolvers, or to port 53 of any address; with servers a resolver must be known"`
	Port    PortWord `key:"port" modes:"sidecar,ambient-pod" default:"15053" doc:"the proxy's DNS listener, UDP and TCP"`
	Servers []string `key:"servers" modes:"sidecar" doc:"the resolvers; none: those of the namespace's resolv.conf"`

	Protocols    []string `key:"protocols" modes:"sidecar,ambient-pod" default:"udp,tcp" doc:"udp, tcp or both: over which queries are captured"`
	Zones        string   `key:"zones" modes:"sidecar,ambient-pod" default:"enabled" words:"enabled | disabled" doc:": conntrack zones that keep the proxy's queries over UDP apart from the application's"`
	Exclusions   string   `key:"exclusions" modes:"sidecar,ambient-pod" default:"owners" words:"none queries are captured before anything of outbound is left alone | owners excluded ports, users and groups | all excluded destinations too, which then come first" doc:": what outbound leaves alone of queries too"`
	ProxyQueries string   `key:"proxyQueries" modes:"sidecar" default:"left" words:"left | captured" doc:": the proxy's own queries"`
	To           []string `key:"to" modes:"sidecar,ambient-pod" doc:"where captured queries go instead of dns.port: an address, or address:port, at most one of each family; queries of the other family are left alone"`
}

// UDP is the capture of datagrams by tproxy, with conntrack: none. Without ports none
// are captured.
type UDP struct {
	Outbound UDPOutbound `key:"outbound"`
	Inbound  UDPInbound  `key:"inbound"`
}

// UDPOutbound is what the application sends.
type UDPOutbound struct {
	IncludePorts []PortWord `key:"includePorts" modes:"sidecar" doc:"ports whose datagrams are captured; with conntrack: none"`
	Port         PortWord   `key:"port" modes:"sidecar" default:"15001" doc:"the proxy's listener for them, transparent"`
}

// UDPInbound is what comes in for the application.
type UDPInbound struct {
	IncludePorts []PortWord `key:"includePorts" modes:"sidecar" doc:"ports whose datagrams are captured; with conntrack: none"`
	Port         PortWord   `key:"port" modes:"sidecar" default:"15006" doc:"the proxy's listener for them, transparent"`
}

// Interfaces are names of at most 15 bytes, or wildcards such as veth*.
type Interfaces struct {
	Exclude []string   `key:"exclude" modes:"sidecar,ambient-pod" doc:"interfaces left alone, both ways: names, wildcards (veth*), + for all"`
	Reroute []Rerouted `key:"reroute" modes:"sidecar,ambient-pod" doc:"virtual interfaces whose inbound traffic is treated as outbound: names, or {name: tap0, exclusions: ignored, excludeCIDRs: [172.17.0.0/16], dns: enabled, family: ipv4}"`
}

// Rerouted is a virtual interface whose inbound traffic is treated as outbound. In
// a file its name may stand for it. The first key is the name.
type Rerouted struct {
	Name       string `key:"name" needed:"yes" doc:"an interface, or a wildcard"`
	Exclusions string `key:"exclusions" default:"honoured" words:"honoured | ignored" doc:": whether outbound.excludeCIDRs, excludePorts and includePorts count for it"`

	ExcludeCIDRs []string `key:"excludeCIDRs" doc:"destinations that are not rerouted: what goes there comes in as from other interfaces"`
	DNS          string   `key:"dns" default:"disabled" words:"disabled | enabled" doc:": queries from it go to dns.port, over dns.protocols"`
	Family       string   `key:"family" default:"both" words:"both | ipv4 | ipv6" doc:": what is rerouted"`
}

// Loopback is what on the loopback interface is not a call to a service.
type Loopback struct {
	CIDR        string   `key:"cidr" modes:"sidecar" default:"127.0.0.1/32" doc:"IPv4 destinations that stay between the application and itself; ::1 always does"`
	Passthrough []string `key:"passthrough" modes:"sidecar" default:"127.0.0.6,::6" doc:"source addresses of the proxy's own calls to the application; IPv6 ones are added to lo"`
}

// Probes are the kubelet's, of pods whose proxy is the node's.
type Probes struct {
	Addresses []string `key:"addresses" modes:"ambient-pod,ambient-host" default:"169.254.7.127,fd16:9254:7127:1337:ffff:ffff:ffff:ffff" doc:"from which pods see them, at most one of each family"`
	From      string   `key:"from" modes:"ambient-host" default:"local" words:"local | uids | cgroups" doc:": whose connections are probes; local is all that the host itself opens"`
	UIDs      []string `key:"uids" modes:"ambient-host" doc:"user ids or names, for from: uids"`
	Cgroups   []string `key:"cgroups" modes:"ambient-host" doc:"paths below the root of cgroup v2, for from: cgroups"`
	Mark      MarkWord `key:"mark" modes:"ambient-host" default:"0x1000/0x1000" doc:"value[/mask] that packets from the cgroups get on their way out"`
}

// Routing is how packets with a mark reach a transparent socket.
type Routing struct {
	Mark     MarkWord `key:"mark" modes:"sidecar,ambient-pod" default:"0x539" ambient-pod:"0x111/0xfff" doc:"value[/mask] of packets that are delivered to the proxy's sockets, and of their connections; with conntrack: none 0x53c"`
	LoopMark MarkWord `key:"loopMark" modes:"sidecar" default:"0x53a" doc:"value[/mask] of the proxy's calls to its own pod; with conntrack: none 0x53e"`
	Mask     MarkWord `key:"mask" modes:"sidecar,ambient-pod" default:"0xfff" doc:"of marks that are written without one: other bits are neither matched nor changed"`
	Table    string   `key:"table" modes:"sidecar,ambient-pod" default:"133" ambient-pod:"100" doc:"the routing table that delivers them, or none"`
	Priority string   `key:"priority" modes:"sidecar,ambient-pod" default:"auto" doc:"of the policy rule that looks it up: auto, or a number of 1-32765; auto is 32765 (ambient-pod: 32764), or a place before every policy rule of others that may catch marked packets, and stays where it stands as long as that is one"`
}

// Watch is what is counted of calls to other hosts, and how they get their names.
type Watch struct {
	Names       []string `key:"names" modes:"egress" default:"dns,sni,http,quic" doc:"what tells the names of destinations: dns, sni, http, quic, or none"`
	By          string   `key:"by" modes:"egress" default:"uid" words:"uid | cgroup | pod on a node, what it forwards" doc:": whose calls are told apart"`
	CgroupLevel string   `key:"cgroupLevel" modes:"egress" default:"2" doc:"with by: cgroup, how deep below the root of cgroup v2: 2 is system.slice/nginx.service"`
	Size        string   `key:"size" modes:"egress" default:"16384" doc:"destinations at once, of each family; what there is no room for is counted as such"`
	Resolvers   []string `key:"resolvers" modes:"egress" doc:"addresses whose DNS answers are believed; the default is those of resolv.conf"`
}

// The modes.
const (
	ModeNone        = "none"
	ModeSidecar     = "sidecar"
	ModeAmbientPod  = "ambient-pod"
	ModeAmbientHost = "ambient-host"
	ModeEgress      = "egress"
)
