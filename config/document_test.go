// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weir-mesh/weir/modes"
)

// problemLines are the parts of an error, each a line.
func problemLines(err error) []string {
	if err == nil {
		return nil
	}
	return strings.Split(err.Error(), "\n")
}

const wantKeys = "version, mode, table, ipv6, proxy, inbound, outbound, dns, udp, interfaces, loopback, probes, conntrack, dropInvalid, routing, watch"

func TestDocumentProblems(t *testing.T) {
	const proxy = "mode: sidecar\nproxy: {uids: [1337]}\n"
	for _, tt := range []struct {
		why, text string
		want      []string
	}{
		{"the least configuration", "version: 1\nmode: sidecar\nproxy: {uids: [1337]}\n", nil},
		{"JSON is YAML", `{"version": 1, "mode": "sidecar", "proxy": {"uids": [1337]}}`, nil},
		{"JSON may be indented with tabs", "{\n\t\"mode\": \"sidecar\",\n\t\"proxy\": {\"uids\": [1337]}\n}\n", nil},
		{"marks of a document's begin and end", "%YAML 1.2\n---\nmode: none\n...\n", nil},
		{"an empty second document says nothing", "---\nmode: none\n---\n# the end\n", nil},
		{"lines may end as on Windows", "mode: sidecar\r\nproxy:\r\n  uids:\r\n    - 1337\r\n", nil},
		{"a byte order mark is not part of a key", "\ufeffmode: none\n", nil},
		{"a tab may stand before a comment or a value", "mode:\tnone\t# nothing\n\t# of ours\n", nil},
		{"null is absent", proxy + "inbound:\noutbound: {port: ~, includeCIDRs: null}\n", nil},
		{"quotes are no part of a word", "mode: 'sidecar'\n\"proxy\": {uids: [\"1337\"]}\n", nil},

		{"an empty file", "", []string{"pod.yaml: holds no configuration (the least one is: version: 1, mode: sidecar, proxy: {uids: [1337]})"}},
		{"a file of comments", "# mode: none\n---\n", []string{"pod.yaml: holds no configuration (the least one is: version: 1, mode: sidecar, proxy: {uids: [1337]})"}},
		{"a list is not a configuration", "- mode: none\n", []string{"pod.yaml:1:1: is a list (want keys, at least: version: 1, mode: sidecar, proxy: {uids: [1337]})"}},
		{"a word is not a configuration", "\n  sidecar", []string{"pod.yaml:2:3: is one word (want keys, at least: version: 1, mode: sidecar, proxy: {uids: [1337]})"}},
		{"two documents", "mode: none\n---\nmode: sidecar\n---\n- x\n", []string{
			"pod.yaml:3:1: a second document begins (want one a file)",
			"pod.yaml:5:1: a second document begins (want one a file)",
		}},

		{"a misspelt key is told the nearest", proxy + "outbound:\n  exludePorts: [22]\n",
			[]string{"pod.yaml:4:3: outbound.exludePorts: unknown key (did you mean outbound.excludePorts?)"}},
		{"a key in another case is told its own", proxy + "outbound: {includeCidrs: [10.0.0.0/8]}\n",
			[]string{"pod.yaml:3:12: outbound.includeCidrs: unknown key (did you mean outbound.includeCIDRs?)"}},
		{"a misspelt section is told the nearest", "mode: sidecar\nprxy: {uids: [1337]}\n", []string{"pod.yaml:2:1: prxy: unknown key (did you mean proxy?)"}},
		{"a key at the wrong level is told where it belongs", proxy + "excludePorts: [22]\ncidr: 127.0.0.1\n", []string{
			"pod.yaml:3:1: excludePorts: unknown key (did you mean inbound.excludePorts or outbound.excludePorts?)",
			"pod.yaml:4:1: cidr: unknown key (did you mean loopback.cidr?)",
		}},
		{"a key in another's section is told its own", proxy + "inbound: {includeCIDRs: []}\ndns: {dropInvalid: true, inbound: {}}\n", []string{
			"pod.yaml:3:11: inbound.includeCIDRs: unknown key (did you mean outbound.includeCIDRs?)",
			"pod.yaml:4:7: dns.dropInvalid: unknown key (did you mean dropInvalid?)",
			"pod.yaml:4:26: dns.inbound: unknown key (did you mean inbound?)",
		}},
		{"a path is not a key", proxy + "inbound.port: 15006\n", []string{"pod.yaml:3:1: inbound.port: unknown key (want its section: inbound: {port: ...})"}},
		{"a flag is not a key", proxy + "outbound-exclude-cidrs: []\n", []string{"pod.yaml:3:1: outbound-exclude-cidrs: unknown key (did you mean outbound.excludeCIDRs?)"}},
		{"a key like no other is told them all", proxy + "kubernetes: true\ndns: {nothing-like-it: 1}\n", []string{
			"pod.yaml:3:1: kubernetes: unknown key (want one of: " + wantKeys + ")",
			"pod.yaml:4:7: dns.nothing-like-it: unknown key (want one of: capture, port, servers, protocols, zones, exclusions, proxyQueries, to)",
		}},
		{"a key of no other mode", "mode: none\nuids: [1]\n", []string{"pod.yaml:2:1: uids: unknown key (did you mean proxy.uids (mode sidecar) or probes.uids (mode ambient-host)?)"}},
		{"a key that the mode does not use", "mode: none\nproxy: {uids: [1337]}\nipv6: off\n", []string{
			"pod.yaml:2:9: proxy.uids: is not used by mode none (it is by sidecar)",
			"pod.yaml:3:1: ipv6: is not used by mode none (it is by sidecar, ambient-pod, ambient-host, egress)",
		}},
		{"a key that is written twice", "mode: none\nmode: sidecar\ntable: a\ntable: b\n", []string{
			"pod.yaml:2:1: mode: is written twice (first in line 1)",
			"pod.yaml:4:1: table: is written twice (first in line 3)",
		}},
		{"a section that is written twice", proxy + "dns: {port: 53}\noutbound:\n  port: 1\n  port: 2\ndns: {}\n", []string{
			"pod.yaml:6:3: outbound.port: is written twice (first in line 5)",
			"pod.yaml:7:1: dns: is written twice (first in line 3)",
		}},
		{"a key that is not a word", "mode: none\n[a, b]: c\n", []string{"pod.yaml:2:7: is not YAML: found an invalid key for this map"}},

		{"a list where a word is wanted", proxy + "inbound:\n  port: [15006]\n", []string{"pod.yaml:4:9: inbound.port: is a list (want one word)"}},
		{"a map where a word is wanted", proxy + "inbound:\n  port: {tcp: 15006}\n",
			[]string{"pod.yaml:4:10: inbound.port: is a map (want one word, in quotes where one ends in a colon)"}},
		{"a word where a section is wanted", proxy + "dns: true\n", []string{"pod.yaml:3:6: dns: is one word (want keys: capture, port, servers, protocols, zones, exclusions, proxyQueries, to)"}},
		{"a list where a section is wanted", proxy + "dns: [all]\n", []string{"pod.yaml:3:6: dns: is a list (want keys: capture, port, servers, protocols, zones, exclusions, proxyQueries, to)"}},
		{"a map where a list is wanted", proxy + "outbound:\n  excludePorts: {tcp: 22}\n",
			[]string{"pod.yaml:4:18: outbound.excludePorts: holds a map (want words, in quotes where one ends in a colon)"}},
		{"lists in a list", proxy + "outbound:\n  excludePorts:\n  - 22\n  - [23]\n  - tcp: 24\n", []string{
			"pod.yaml:6:5: outbound.excludePorts: holds a list (want words)",
			"pod.yaml:7:5: outbound.excludePorts: holds a map (want words, in quotes where one ends in a colon)",
		}},
		{"an empty entry of a list", proxy + "outbound:\n  excludePorts:\n  - 22\n  -\n  - ~\n  - ''\n", []string{
			"pod.yaml:6:4: outbound.excludePorts: has an empty entry (want a word)",
			"pod.yaml:7:5: outbound.excludePorts: has an empty entry (want a word)",
			"pod.yaml:8:5: outbound.excludePorts: has an empty word (want [] for none)",
		}},
		{"an empty word", proxy + "table: ''\noutbound: {excludeCIDRs: \"\"}\n", []string{
			"pod.yaml:3:8: table: is empty (without the key its default holds)",
			"pod.yaml:4:26: outbound.excludeCIDRs: has an empty word (want [] for none)",
		}},
		{"a list with commas that YAML does not see", proxy + "outbound: {excludePorts: \"22,23\"}\n",
			[]string{`pod.yaml:3:26: outbound.excludePorts: "22,23" holds a comma (want a list such as [a, b])`}},

		{"a star without quotes", proxy + "outbound:\n  includeCIDRs: *\n", []string{`pod.yaml:4:17: is not YAML: * begins an alias (want "*" in quotes, or all)`}},
		{"a star without quotes before more", "outbound:\n  includeCIDRs: *\n" + proxy, []string{`pod.yaml:2:17: is not YAML: * begins an alias (want "*" in quotes, or all)`}},
		{"a star without quotes in a list", proxy + "outbound: {includeCIDRs: [*]}\n", []string{`pod.yaml:3:27: is not YAML: * begins an alias (want "*" in quotes, or all)`}},
		{"an anchor and an alias", "mode: sidecar\nproxy: &p {uids: [1337]}\ninbound: *p\n", []string{
			"pod.yaml:2:8: an anchor (&) is not read here (want the value itself wherever it is needed)",
			`pod.yaml:3:10: an alias (*) is not read here (want the value itself, or quotes around a "*")`,
		}},
		{"a merge", "mode: sidecar\nproxy:\n  <<: {uids: [1337]}\n", []string{"pod.yaml:3:3: a merge (<<) is not read here (want the keys themselves)"}},
		{"a tag", "mode: !!str sidecar\nproxy: {uids: [1337]}\n", []string{"pod.yaml:1:7: a tag (!) is not read here (want the value alone)"}},
		{"a key after a question mark", "? mode\n: none\n", []string{"pod.yaml:1:1: a key after ? is not read here (want key: value)"}},
		{"a tab indents", "mode: sidecar\nproxy:\n\tuids: [1337]\n  \tgids: [1]\n", []string{
			"pod.yaml:3:1: a tab indents this line (want spaces)",
			"pod.yaml:4:3: a tab indents this line (want spaces)",
		}},
		{"a quote without its end", "mode: none\ntable: \"weir\n", []string{"pod.yaml:2:8: is not YAML: could not find end character of double-quoted text"}},
		{"a bracket without its end", "proxy: {uids: [1337}\n", []string{"pod.yaml:1:20: is not YAML: ',' or ']' must be specified"}},
		{"a colon where none can stand", "mode: none\ntable: a: b\n", []string{
			"pod.yaml:2:8: is not YAML: a colon makes this a key, and none can stand here (want quotes around a value with a colon, or another indentation)"}},
		{"an indentation that fits nowhere", "mode: sidecar\nproxy:\n   uids: [1]\n  gids: [2]\n", []string{"pod.yaml:4:3: is not YAML: value is not allowed in this context"}},
		{"bytes that are no text", "mode: none\ntable: \xff\xfe\n", []string{"pod.yaml:2: is not UTF-8 text"}},
		{"UTF-16", "\xff\xfem\x00o\x00", []string{"pod.yaml:1: is not UTF-8 text"}},
		{"a control character", "mode: no\x00ne\n", []string{`pod.yaml:1:9: holds a control character, '\x00'`}},

		{"a word is told its own place, not its key's", proxy + "outbound:\n  excludePorts: [22, 70000]\n  excludeCIDRs:\n    - 10.0.0.0/8\n    - 10.0.0.0/33\n", []string{
			`pod.yaml:4:22: outbound.excludePorts: "70000" is not a port (want a number of 1-65535, a range such as 8000-8100, or a service such as https)`,
			`pod.yaml:7:7: outbound.excludeCIDRs: "10.0.0.0/33" is not an address or prefix (want 10.0.0.0/8, 192.0.2.1 or fd00::/8)`,
		}},
		{"the same word twice is told twice", proxy + "outbound:\n  excludePorts: [0, 1, 0]\n", []string{
			`pod.yaml:4:18: outbound.excludePorts: "0" is not a port (want a number of 1-65535, a range such as 8000-8100, or a service such as https)`,
			`pod.yaml:4:24: outbound.excludePorts: "0" is not a port (want a number of 1-65535, a range such as 8000-8100, or a service such as https)`,
		}},
		{"a number is quoted as it was written", proxy + "inbound: {port: 0x3a9e, tunnelPort: 15_008, includePorts: [0123, 1e3, .inf]}\nrouting: {mark: 0o17, table: 1.0}\n", []string{
			`pod.yaml:3:17: inbound.port: "0x3a9e" is not a port (want a number of 1-65535, or a range that the proxy listens on)`,
			`pod.yaml:3:37: inbound.tunnelPort: "15_008" is not a port (want a number of 1-65535, a range such as 8000-8100, or a service such as https)`,
			`pod.yaml:3:60: inbound.includePorts: "0123" is not a port (want a number of 1-65535, a range such as 8000-8100, or a service such as https)`,
			`pod.yaml:3:66: inbound.includePorts: "1e3" is not a port (want a number of 1-65535, a range such as 8000-8100, or a service such as https)`,
			`pod.yaml:3:71: inbound.includePorts: ".inf" is not a port (want a number of 1-65535, a range such as 8000-8100, or a service such as https)`,
			`pod.yaml:4:17: routing.mark: "0o17" is not a mark (want a number such as 0x539 or 0x539/0xfff)`,
			`pod.yaml:4:30: routing.table: "1.0" is not a whole number from 1 to 4294967295`,
		}},
		{"a problem of a section points at it", "mode: sidecar\nproxy:\n  uids: []\n", []string{
			"pod.yaml:2:1: proxy: needs uids, gids or a mark: without one the proxy's own traffic would be captured in a loop"}},
		{"a problem of an absent key has the file alone, and comes last", "proxy: {uids: [x/y, -1]}\ntable: 1\n", []string{
			`pod.yaml:1:21: proxy.uids: "-1" is not a user id (want 0-4294967294, or a range such as 1000-2000)`,
			`pod.yaml:2:8: table: "1" is not a table name (want a letter, then at most 30 letters, digits, '_' or '-')`,
			"pod.yaml: mode: is missing (want sidecar, ambient-pod, ambient-host, egress or none)",
		}},
		{"shapes and words are told together, in order", "version: 2\nmode: sidecar\nproxy: {uid: 1337}\ninbound: {via: redirct}\noutbound: {excludePorts: [1, [2], 99999]}\ndns: on\n", []string{
			`pod.yaml:1:10: version: "2" is not known (want 1)`,
			"pod.yaml:3:9: proxy.uid: unknown key (did you mean proxy.uids?)",
			`pod.yaml:4:16: inbound.via: "redirct" is not one of: redirect, tproxy, marks, none`,
			"pod.yaml:5:30: outbound.excludePorts: holds a list (want words)",
			`pod.yaml:5:35: outbound.excludePorts: "99999" is not a port (want a number of 1-65535, a range such as 8000-8100, or a service such as https)`,
			"pod.yaml:6:6: dns: is one word (want keys: capture, port, servers, protocols, zones, exclusions, proxyQueries, to)",
		}},
		{"an entry of a list may be a map, and each of its words has its place", proxy + "interfaces:\n  reroute:\n    - tap0\n    - {name: a/b, exclusions: some}\n    - name: a/b\n      exclusion: ignored\n    - {exclusions: ignored}\n    - [tap1]\n", []string{
			`pod.yaml:6:14: interfaces.reroute: "a/b" is not an interface name`,
			`pod.yaml:6:31: interfaces.reroute.exclusions: "some" is not one of: honoured, ignored`,
			`pod.yaml:7:13: interfaces.reroute: "a/b" is not an interface name`,
			"pod.yaml:8:7: interfaces.reroute.exclusion: unknown key (did you mean exclusions?)",
			"pod.yaml:9:8: interfaces.reroute: has an entry without name",
			"pod.yaml:10:7: interfaces.reroute: holds a list (want words)",
		}},
		{"a key of a map in a list may hold a list, and each of its words has its place", proxy + "outbound:\n  exclude:\n    - {uids: [1000, no one], ports: [http, 70000]}\n    - 9-1\n    - {protocol: tcp}\n    - {uids: [{a: b}]}\n", []string{
			`pod.yaml:5:44: outbound.exclude.ports: "70000" is not a port (want a number of 1-65535, a range such as 8000-8100, or a service such as https)`,
			`pod.yaml:6:7: outbound.exclude.uids: "9-1" is a reversed range (want 1-9)`,
			`pod.yaml:8:16: outbound.exclude.uids: holds a map (want words, in quotes where one ends in a colon)`,
		}},
		{"a map in a list has its keys once", proxy + "interfaces: {reroute: {name: tap0, name: tap1, vlan: on, exclusions: [ignored]}}\n", []string{
			"pod.yaml:3:36: interfaces.reroute.name: is written twice (first in line 3)",
			"pod.yaml:3:48: interfaces.reroute.vlan: unknown key (want one of: name, exclusions, excludeCIDRs, dns, family)",
			"pod.yaml:3:70: interfaces.reroute.exclusions: is a list (want one word)",
		}},
		{"a list of words alone takes no map", proxy + "interfaces: {exclude: [{name: eth1}]}\n", []string{
			"pod.yaml:3:25: interfaces.exclude: holds a map (want words, in quotes where one ends in a colon)"}},
		{"a long key is not repeated whole", "mode: none\n" + strings.Repeat("x", 200) + ": 1\n", []string{
			"pod.yaml:2:1: " + strings.Repeat("x", 80) + "...: unknown key (want one of: " + wantKeys + ")"}},
	} {
		_, err := Parse("pod.yaml", []byte(tt.text))
		if got := problemLines(err); !slices.Equal(got, tt.want) {
			t.Errorf("%s:\ngot  %q\nwant %q", tt.why, got, tt.want)
		}
	}
}

// TestReferenceExamples reads documents as the reference has them: the first one
// writes every default, so it makes the ruleset of the least configuration.
func TestReferenceExamples(t *testing.T) {
	const everyKey = `# A sidecar, REDIRECT: every key, with its default unless noted
version: 1
mode: sidecar                  # sidecar | ambient-pod | ambient-host | none (required)
table: weir                    # the inet table
ipv6: auto                     # auto | enabled | disabled
proxy:                         # whose traffic is never captured: at least one of the three
  uids: [1337]                 # -u  number or name (no default)
  gids: [1337]                 # -g  (no default)
  # mark: 0x539/0xfff          # value[/mask] on its packets
inbound:
  via: redirect                # redirect | tproxy | none                  -m
  port: 15006                  # the proxy's inbound listener              -z
  tunnelPort: 15008            #                                           -e
  includePorts: all            # all | [80, 8000-8100]                     -b
  excludePorts: []             #                                           -d
outbound:
  via: redirect                # redirect | none
  port: 15001                  # the proxy's outbound listener             -p
  includeCIDRs: all            #                                           -i
  excludeCIDRs: []             #                                           -x
  includePorts: []             # captured whatever the CIDRs say           -q
  excludePorts: []             # TCP and UDP                               -o
  includeGIDs: all             # ISTIO_OUTBOUND_OWNER_GROUPS
  excludeGIDs: []              # ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE
  excludeUIDs: []
dns:
  capture: none                # none | servers | all                      --redirect-dns, --capture-all-dns
  port: 15053
  servers: []                  # empty: the namespace's resolv.conf
interfaces:
  exclude: []                  # eth1, "veth*"                             -c
  reroute: []                  # inbound treated as outbound               -k
loopback:
  cidr: 127.0.0.1/32           # ISTIO_OUTBOUND_IPV4_LOOPBACK_CIDR
  passthrough: [127.0.0.6, "::6"]
dropInvalid: false             #                                           --drop-invalid
`
	const tproxy = `# A sidecar by TPROXY, with DNS
version: 1
mode: sidecar
proxy: {uids: [1337], gids: [1337]}
inbound: {via: tproxy, excludePorts: [15020, 15021, 15090]}
dns: {capture: servers, servers: [10.96.0.10]}
routing:                       # packets with the mark are delivered to lo by a policy rule
  mark: 0x539                  # -t
  loopMark: 0x53a
  table: 133                   # -r
  priority: 32765
`
	const nothing = `# Nothing: removes what is ours and verifies that nothing of ours captures
version: 1
mode: none
`
	states := map[string]string{}
	for name, text := range map[string]string{
		"every key": everyKey, "tproxy": tproxy, "nothing": nothing,
		"least": "mode: sidecar\nproxy: {uids: [1337], gids: [1337]}\n",
	} {
		c, err := Parse(name, []byte(text))
		if err != nil {
			t.Errorf("%v", err)
			continue
		}
		state, _, err := modes.State(c.Config, modes.Environment{IPv6: true})
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		states[name] = state.String()
	}
	if states["every key"] != states["least"] {
		t.Errorf("the defaults that are written make\n%s\nand those that are not\n%s", states["every key"], states["least"])
	}
	if states["nothing"] != "" {
		t.Errorf("nothing makes\n%s", states["nothing"])
	}
	if !strings.Contains(states["tproxy"], "tproxy to :15006") {
		t.Errorf("there is no tproxy in\n%s", states["tproxy"])
	}
}

func TestDocumentWords(t *testing.T) {
	for _, tt := range []struct {
		why, text string
		key       string
		want      []string // nil: absent
	}{
		{"what is not written is absent", "mode: none", "table", nil},
		{"null is absent", "outbound: {excludePorts: ~}", "outbound.excludePorts", nil},
		{"an empty value is absent", "outbound:\n  excludePorts:\n  port: 1\n", "outbound.excludePorts", nil},
		{"an empty list is none, not absent", "outbound: {excludePorts: []}", "outbound.excludePorts", []string{}},
		{"a hexadecimal number stays", "routing: {mark: 0x539}", "routing.mark", []string{"0x539"}},
		{"a mark with a mask", "proxy: {mark: 0x539/0xfff}", "proxy.mark", []string{"0x539/0xfff"}},
		{"what older YAML reads as octal or in sixties stays", "outbound: {excludePorts: [0123, 80:90, 1_000]}", "outbound.excludePorts", []string{"0123", "80:90", "1_000"}},
		{"words of truth stay", "dropInvalid: Yes", "dropInvalid", []string{"Yes"}},
		{"true stays", "dropInvalid: true", "dropInvalid", []string{"true"}},
		{"off stays", "inbound: {via: off}", "inbound.via", []string{"off"}},
		{"a star in quotes", "outbound: {includeCIDRs: '*'}", "outbound.includeCIDRs", []string{"*"}},
		{"one word is a list of one", "inbound: {includePorts: 8000-8100}", "inbound.includePorts", []string{"8000-8100"}},
		{"a list of lines", "outbound:\n  excludePorts:\n  - 22\n  - \"23\"\n", "outbound.excludePorts", []string{"22", "23"}},
		{"a list over lines with a comma at its end", "outbound:\n  excludePorts: [\n    22, # ssh\n    23,\n  ]\n", "outbound.excludePorts", []string{"22", "23"}},
		{"IPv6 addresses need no quotes", "outbound:\n  excludeCIDRs: [::6, fd00::/8, fe80::]\n", "outbound.excludeCIDRs", []string{"::6", "fd00::/8", "fe80::"}},
		{"IPv6 addresses in a list in braces", "outbound: {excludeCIDRs: [::6, fd00::/8 , fe80::, \"::1\", 10.0.0.0/8]}\n", "outbound.excludeCIDRs", []string{"::6", "fd00::/8", "fe80::", "::1", "10.0.0.0/8"}},
		{"an IPv6 address in braces", "loopback: {passthrough: ::6, cidr: 127.0.0.1}\n", "loopback.passthrough", []string{"::6"}},
		{"IPv6 addresses on lines of their own", "outbound:\n  excludeCIDRs:\n  - ::6\n  - fd00::/8\n", "outbound.excludeCIDRs", []string{"::6", "fd00::/8"}},
		{"a wildcard needs no quotes", "interfaces: {exclude: [veth*, eth+]}", "interfaces.exclude", []string{"veth*", "eth+"}},
		{"null in quotes is a word", "table: 'null'", "table", []string{"null"}},
		{"a word over two lines", "table: a\n  b\n", "table", []string{"a b"}},
	} {
		c := Read("pod.yaml", []byte(tt.text))
		if len(c.problems) > 0 {
			t.Errorf("%s: %v", tt.why, c.problems)
			continue
		}
		for _, k := range modes.Keys() {
			if k.Path != tt.key {
				continue
			}
			got, set := k.Get(&c.Config)
			if set != (tt.want != nil) || set && !slices.Equal(got, tt.want) {
				t.Errorf("%s: %s is %q, %v", tt.why, tt.key, got, set)
			}
		}
	}
}

func TestExplainKeepsTypes(t *testing.T) {
	c, err := Parse("pod.yaml", []byte("mode: sidecar\nproxy: {uid: 1}\noutbound: {port: x}\n"))
	var config *modes.ConfigError
	if !errors.As(err, &config) || config.Key != "proxy.uid" {
		t.Errorf("got %+v of %v", config, err)
	}
	if c.Explain(nil) != nil {
		t.Error("there is an error where there was none")
	}
	other := errors.New("the kernel has no redir")
	if got := c.Explain(other); !errors.Is(got, other) || got.Error() != other.Error() {
		t.Errorf("another error became %v", got)
	}
	wrapped := fmt.Errorf("apply: %w and %w", other, &modes.ConfigError{Key: "mode", Problem: "is odd"})
	if got := c.Explain(wrapped); got.Error() != "apply: the kernel has no redir and mode: is odd" {
		t.Errorf("an error that says more than its parts became %v", got)
	}
	again := c.Explain(err)
	if again.Error() != err.Error() {
		t.Errorf("explained twice:\n%v\nonce:\n%v", again, err)
	}
}

func TestExplainNote(t *testing.T) {
	c, err := Parse("pod.yaml", []byte("mode: sidecar\nproxy: {uids: [1]}\noutbound:\n  excludeCIDRs:\n  - 10.0.0.0/8\n  - 10.0.0.1/8\n"))
	if err != nil {
		t.Fatal(err)
	}
	_, notes, err := modes.State(c.Config, modes.Environment{})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, n := range notes {
		got = append(got, c.ExplainNote(n))
	}
	want := []string{
		"pod.yaml: ipv6: auto was taken as disabled: IPv6 is left alone",
		"pod.yaml:6:5: outbound.excludeCIDRs: 10.0.0.1/8 was read as 10.0.0.0/8",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if got := (&File{}).ExplainNote(notes[0]); got != notes[0].String() {
		t.Errorf("a note without a file is %q", got)
	}
}

func TestProblemsAreBounded(t *testing.T) {
	_, err := Parse("pod.yaml", []byte("mode: sidecar\nproxy: {uids: [1]}\noutbound:\n  excludePorts: ["+strings.Repeat("0, ", 1000)+"]\n"))
	got := problemLines(err)
	if len(got) != 101 || got[100] != "and 900 more problems" {
		t.Errorf("%d lines, the last is %q", len(got), got[len(got)-1])
	}
}

// TestDocumentsThatAreTooMuch has texts that would take the YAML reader minutes,
// or its stack.
func TestDocumentsThatAreTooMuch(t *testing.T) {
	for i, tt := range []struct{ why, text, want string }{
		{"too long", "mode: none\n#" + strings.Repeat("x", MaxSize), "pod.yaml: is longer than 4 MiB"},
		{"deep in brackets", strings.Repeat("[", 1<<19), "levels deep"},
		{"deep in braces", strings.Repeat("{a: ", 1<<18), "levels deep"},
		{"deep in dashes", strings.Repeat("- ", 1<<18), "levels deep"},
		{"aliases of aliases", "a: &a [x, x]\n" + strings.Repeat("b: &b [*a, *a, *a, *a]\n", 1<<16), "anchors, aliases or tags"},
		{"many keys in braces", "{" + strings.Repeat("a: b, ", 1<<17) + "}", "keys"},
		{"many keys on lines", strings.Repeat("a: b\n", 1<<17), "keys"},
		{"many tags", strings.Repeat("!a ", 1<<18), "anchors, aliases or tags"},
		{"many quotes", strings.Repeat("'' ", 1<<18), "values where none can stand"},
		{"many question marks", strings.Repeat("? ", 1<<18), "many of them"},
		{"many directives", strings.Repeat("%", 1<<16), "many of them"},
		{"many quotes on lines", strings.Repeat("''\n", 1<<18), "values where none can stand"},
		{"tabs in quotes, which the reader looks behind again and again", "table: \"" + strings.Repeat("\tx", 1<<18) + "\"", "is not a table name"},
		{"a block text of blank lines", "table: |\n  x" + strings.Repeat("\n", 1<<20), "'|' is read only in a document of at most 8 KiB"},
		{"a folded one in a list", "proxy:\n  uids:\n  - >-\n    x" + strings.Repeat(" \n", 1<<20), "pod.yaml:3:5: '>' is read only"},
		{"many merges", "table: " + strings.Repeat("<", 1<<20), "'<' is read only"},
		{"entries of nothing", strings.Repeat("- \n", 1<<18), "entries of nothing"},
		{"many documents", strings.Repeat("a: b\n---\n", 5000), "a second document begins"},
	} {
		if testing.Short() && i%4 != 0 {
			continue
		}
		_, err := Parse("pod.yaml", []byte(tt.text))
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %.200v", tt.why, err)
		}
	}
}

// TestBlockText is read where it cannot take long, and its signs may stand in
// comments.
func TestBlockText(t *testing.T) {
	c, err := Parse("pod.yaml", []byte("mode: none\ntable: |-\n  mine\n"))
	if err != nil || c.Table != "mine" {
		t.Errorf("table %q, %v", c.Table, err)
	}
	if _, err := Parse("pod.yaml", []byte("mode: none # > and\n"+strings.Repeat("# <<< | >>>\n", 1000))); err != nil {
		t.Error(err)
	}
}

// TestReadingEnds has a text whose reading takes longer than it may.
func TestReadingEnds(t *testing.T) {
	_, err := parseBounded("table: |\n  x"+strings.Repeat("\n", 8000), 10*time.Millisecond)
	if got, want := fmt.Sprint(err), "it took more than 10ms to read"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestLargeDocument(t *testing.T) {
	var b strings.Builder
	b.WriteString("mode: sidecar\nproxy: {uids: [1337]}\noutbound:\n  excludeCIDRs:\n")
	const n = 100_000
	for i := range n {
		fmt.Fprintf(&b, "  - 10.%d.%d.%d/32\n", i>>15&255, i>>7&255, i<<1&255)
	}
	c, err := Parse("pod.yaml", []byte(b.String()))
	if err != nil || len(c.Outbound.ExcludeCIDRs) != n {
		t.Fatalf("%d words, %v", len(c.Outbound.ExcludeCIDRs), err)
	}
	last := c.places["outbound.excludeCIDRs"].of(c.Outbound.ExcludeCIDRs[n-1], 0)
	if got, want := last.String(), fmt.Sprintf("pod.yaml:%d:5", n+4); got != want {
		t.Errorf("the last word stands at %s, not %s", got, want)
	}
}

// TestEveryKeyInEveryForm writes documents in the many forms that YAML has, and
// reads the same words at the places where they were written.
func TestEveryKeyInEveryForm(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	documents := 300
	if testing.Short() {
		documents = 30
	}
	for range documents {
		w := &yamlWriter{random: random, line: 1, column: 1}
		want := w.configuration()
		c := Read("f", []byte(w.String()))
		if len(c.problems) > 0 {
			t.Fatalf("%v\n%s", c.problems, w)
		}
		for _, k := range modes.Keys() {
			wantWords, wantSet := k.Get(&want)
			got, set := k.Get(&c.Config)
			if set != wantSet || !slices.Equal(got, wantWords) {
				t.Fatalf("%s is %q, %v and not %q, %v\n%s", k.Path, got, set, wantWords, wantSet, w)
			}
			if !set {
				continue
			}
			places := c.places[k.Path]
			if got := places.key.String(); got != w.keys[k.Path] {
				t.Fatalf("%s stands at %s, not %s\n%s", k.Path, got, w.keys[k.Path], w)
			}
			for path := range written(k, &c.Config) {
				for i, p := range c.places[path].words {
					if got := p.place.String(); got != w.words[k.Path][i] {
						t.Fatalf("%s: the word %q stands at %s, not %s\n%s", path, p.word, got, w.words[k.Path][i], w)
					}
				}
			}
		}
	}
}

// yamlWriter writes a random configuration and keeps the places.
type yamlWriter struct {
	strings.Builder
	random       *rand.Rand
	line, column int
	keys         map[string]string
	words        map[string][]string
}

func (w *yamlWriter) put(text string) {
	w.WriteString(text)
	for _, c := range text {
		w.column++
		if c == '\n' {
			w.line, w.column = w.line+1, 1
		}
	}
}

func (w *yamlWriter) here() string { return fmt.Sprintf("f:%d:%d", w.line, w.column) }

func (w *yamlWriter) one(of ...string) string { return of[w.random.IntN(len(of))] }

// end ends a line.
func (w *yamlWriter) end() {
	w.put(w.one("\n", "\n", " # why: [not]\n", "\t# é\n", "\r\n", "\n\n", "\n# a: b\n"))
}

func (w *yamlWriter) scalar() (word, text string) {
	word = w.one("80", "0x539", "0123", "true", "off", "10.0.0.0/8", "fd00::/8", "::6", "veth*", "*", "8000-8100", "0x1/0xf", "a b", "it's", "~x", "1e3", "é", "null", "#x", "1.0")
	switch {
	case word == "null" || word == "#x" || word == "*" || w.random.IntN(3) == 0:
		if w.random.IntN(2) == 0 {
			return word, "'" + strings.ReplaceAll(word, "'", "''") + "'"
		}
		return word, `"` + word + `"`
	}
	return word, word
}

func (w *yamlWriter) configuration() modes.Config {
	var c modes.Config
	w.keys, w.words = map[string]string{}, map[string][]string{}
	section := ""
	for _, k := range modes.Keys() {
		if w.random.IntN(3) == 0 {
			continue
		}
		parent, name, _ := cutLast(k.Path)
		indent := w.open(section, parent)
		section = parent
		w.put(indent)
		w.keys[k.Path] = w.here()
		w.put(w.one(name, name, `"`+name+`"`) + w.one("", " ") + ":")
		w.value(&c, k, indent)
	}
	if len(w.keys) == 0 {
		w.put("table: x\n")
		c.Table = "x"
		w.keys["table"], w.words["table"] = "f:1:1", []string{"f:1:8"}
	}
	return c
}

// open begins the sections of a key that those of the key before it do not hold, and
// returns how far it is indented.
func (w *yamlWriter) open(section, parent string) (indent string) {
	var before []string
	if section != "" {
		before = strings.Split(section, ".")
	}
	if parent == "" {
		return ""
	}
	held := true
	for i, name := range strings.Split(parent, ".") {
		if held = held && i < len(before) && before[i] == name; !held {
			w.put(indent + name + ":")
			w.end()
		}
		indent += "  "
	}
	return indent
}

func (w *yamlWriter) value(c *modes.Config, k modes.Key, indent string) {
	word := func(before string) string {
		text, form := w.scalar()
		w.put(before)
		w.words[k.Path] = append(w.words[k.Path], w.here())
		w.put(form)
		return text
	}
	var words []string
	n := w.random.IntN(4)
	switch {
	case !k.List || n == 1 && w.random.IntN(2) == 0:
		words = append(words, word(w.one(" ", "   ", "\t")))
		w.end()
	case n == 0 || w.random.IntN(2) == 0:
		w.put(w.one(" [", " [ ", " [\n"+indent+"   "))
		for i := range n {
			words = append(words, word(map[bool]string{true: w.one(",", ", ", ",\n"+indent+"    ", " , # x\n"+indent+"  ")}[i > 0]))
		}
		w.put(w.one("]", " ]"))
		w.end()
	default:
		deeper := w.one(indent, indent+" ", indent+"    ")
		w.end()
		for range n {
			words = append(words, word(deeper+w.one("- ", "-   ")))
			w.end()
		}
	}
	k.Set(c, words...)
}

// FuzzParse: no bytes make a panic; a configuration without a
// problem is all of the document, and each of its words has a place.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"", "version: 1\nmode: sidecar\nproxy: {uids: [1337]}\n", "a: &x [*x]\n<<: *x\n", "? a\n: b\n", "- - - -", "a: |\n  b\n",
		"mode: \"x", "{\"mode\": [", "a:\tb", "---\n---\n", "%YAML 1.2\n---\na: !!str 1\n...", "outbound:\n  excludePorts: [80, 90-100, '*']\n",
		"mode: sidecar\r\nproxy:\r\n- 1\r\n", "\ufeffmode: none", "a: >-\n\n x\n", "x: 'a''b' # c\n", "dns: {servers: [::1, fe80::]}",
		"outbound:\n exclude: ['*']", "outbound: {exclude: [{ports: [80], uids: [1, 2]}, 3]}", "interfaces: {reroute: [a, {name: b, excludeCIDRs: [10.0.0.0/8]}]}\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c := Read("f", data)
		_ = c.Check()
		if len(c.problems) > 0 {
			for _, l := range problemLines(errors.Join(c.problems...)) {
				if !strings.HasPrefix(l, "f:") && !strings.HasPrefix(l, "f ") {
					t.Errorf("%q: %q has no place", data, l)
				}
			}
			return
		}
		for _, k := range modes.Keys() {
			if _, set := k.Get(&c.Config); !set {
				continue
			}
			for path, words := range written(k, &c.Config) {
				places := c.places[path]
				if places == nil || places.key.Line == 0 || len(places.words) != len(words) {
					t.Fatalf("%q: %s is %q and has the places %v", data, path, words, places)
				}
				for _, w := range places.words {
					if w.place.Line == 0 || w.place.Column == 0 {
						t.Errorf("%q: %s: %q has the place %s", data, path, w.word, w.place)
					}
				}
			}
		}
	})
}

// written are the words of a key by the paths below which problems find them: of
// maps in a list each of their keys has its own, but for the one that a map needs.
func written(k modes.Key, c *modes.Config) map[string][]string {
	words, _ := k.Get(c)
	if len(k.Items) == 0 {
		return map[string][]string{k.Path: words}
	}
	out := map[string][]string{}
	for _, item := range k.GetItems(c) {
		for _, inner := range k.Items {
			path := join(k.Path, inner.Path)
			if inner.Needed {
				path = k.Path
			}
			if words := item[inner.Path]; len(words) > 0 {
				out[path] = append(out[path], words...)
			}
		}
	}
	return out
}

func BenchmarkRead(b *testing.B) {
	for _, n := range []int{0, 100, 10_000} {
		var text strings.Builder
		text.WriteString("mode: sidecar\nproxy: {uids: [1337]}\noutbound:\n  excludeCIDRs: [")
		for i := range n {
			fmt.Fprintf(&text, "10.%d.%d.0/24, ", i>>8&255, i&255)
		}
		text.WriteString("]\n")
		b.Run(fmt.Sprintf("%d excluded prefixes", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if c := Read("f", []byte(text.String())); len(c.problems) > 0 {
					b.Fatal(c.problems)
				}
			}
		})
	}
}
