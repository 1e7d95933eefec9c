// SPDX-License-Identifier: Apache-2.0

//go:build linux

package integration

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

const podYAML = "version: 1\nmode: sidecar\nproxy: {uids: [1337], gids: [1337]}\n"

// wrong is a command line that cannot be meant.
type wrong struct {
	why   string
	args  string // FILE stands for the configuration's
	yaml  string
	says  string
	exact bool // and nothing more
}

var wrongUsage = []wrong{
	{why: "a command that is none", args: "frobnicate", says: `weir: unknown command "frobnicate" (see weir help)`},
	{why: "a command that is nearly one", args: "aply", says: `weir: unknown command "aply" (did you mean apply?)`},
	{why: "help for what is not a command", args: "help verfy", says: `weir: unknown command "verfy" (did you mean verify?)`},
	{why: "a flag that is none, of no command", args: "--frobnicate", says: "weir: unknown flag --frobnicate of weir (see weir help)"},
	{why: "a flag that is none", args: "remove --frobnicate", says: "weir: unknown flag --frobnicate of weir remove (see weir help remove)"},
	{why: "a flag that is nearly one", args: "apply --confg FILE", says: "weir: unknown flag --confg of weir apply (did you mean --config?)"},
	{why: "a key's flag that is nearly one", args: "plan --outbound-exclude-cidr 10.0.0.0/8", says: "(did you mean --outbound-exclude-cidrs?)"},
	{why: "another command's flag", args: "apply -f FILE --wait 3s", yaml: podYAML, says: "weir: unknown flag --wait of weir apply (it is a flag of weir verify"},
	{why: "a flag before the command", args: "--json show", says: "weir: unknown flag --json of weir (flags follow the command)"},
	{why: "a command as a flag", args: "--doctor", says: "weir: unknown flag --doctor of weir (did you mean weir doctor?)"},
	{why: "the end of a flag", args: "plan --port 15001", says: "weir: unknown flag --port of weir plan (did you mean --inbound-port or --inbound-tunnel-port or --outbound-port or --dns-port or --udp-outbound-port or --udp-inbound-port?)"},
	{why: "one of the end of a flag", args: "plan --exclude-cidr 10.0.0.0/8", says: "weir: unknown flag --exclude-cidr of weir plan (did you mean --outbound-exclude-cidrs?)"},
	{why: "the end of flags that another command has whole", args: "plan --uid 1337", says: "(did you mean --proxy-uids or --outbound-exclude-uids or --probes-uids?)"},
	{why: "a short flag", args: "plan -n 3", says: "weir: unknown flag -n of weir plan (see weir help plan)"},
	{why: "a configuration from an empty variable", args: "apply --config=", says: "weir: --config: names no file (want --config FILE, or - for standard input)"},
	{why: "a list of no file", args: "plan --mode sidecar --proxy-uids @", says: "weir: --proxy-uids: @ names no file (want @FILE)"},
	{why: "a list on standard input", args: "plan --mode sidecar --proxy-uids @-", says: "weir: --proxy-uids: @- is not a file (want @/dev/stdin for standard input)"},
	{why: "a user below none", args: "plan --mode sidecar --proxy-uids=-1", says: `weir: --proxy-uids: "-1" is not a user id (want 0-4294967294, or a range such as 1000-2000)`},
	{why: "what is as long as none", args: "remove --table " + strings.Repeat("x", 5000), says: strings.Repeat("x", 80) + `..." is not a table name`},
	{why: "a name of no file", args: "plan --config " + strings.Repeat("x", 5000), says: "weir: --config: open " + strings.Repeat("x", 80) + "...: file name too long\n"},
	{why: "an empty name, to show", args: "show --table=", says: "weir: --table: is empty"},
	{why: "a flag without its value", args: "apply --config", says: "weir: --config needs a value (see weir help apply)"},
	{why: "a flag twice", args: "plan -f FILE --proxy-mark 1 --proxy-mark 2", says: `weir: --proxy-mark: "2" is a second value (the first is "1")`},
	{why: "no number", args: "show --pid self", says: `weir: --pid: "self" is not a number`},
	{why: "no process", args: "show --pid 0", says: "weir: --pid: 0 is not a process ID"},
	{why: "no process by that number", args: "apply -f FILE --pid 99999999", yaml: podYAML, says: "weir: --pid: there is no such namespace: open /proc/99999999/ns/net: no such file or directory"},
	{why: "no namespace by that name", args: "verify --netns nosuch", says: "weir: --netns: there is no such namespace: open /run/netns/nosuch: no such file or directory"},
	{why: "no time", args: "verify --wait 30", says: `weir: --wait: "30" is not a duration (want such as 30s or 2m)`},
	{why: "neither true nor false", args: "show --json=maybe", says: `weir: --json: "maybe" is neither true nor false`},
	{why: "a time that is none", args: "apply -f FILE --timeout 0s", yaml: podYAML, says: "weir: --timeout: 0s leaves no time to work (want such as 30s)"},
	{why: "a wait into the past", args: "verify --wait=-1s", says: "weir: --wait: -1s is negative (want such as 30s)"},
	{why: "an environment of nothing", args: "show --environment FILE", says: "weir: --environment is about a configuration, and there is none"},
	{why: "an environment of what is live", args: "explain --live --environment FILE tcp 192.0.2.1:80", says: "weir: --environment is about a configuration, and there is none"},
	{why: "a graph of what is live, with addresses", args: "graph --live --address eth0=10.0.0.1/8", says: "takes no --address"},
	{why: "flags of no packet, to a graph", args: "graph --uid x --mark zz", says: "weir: --uid is about one packet that the command line names"},
	{why: "a wait that the limit would end", args: "verify --wait 1m --timeout 5s", says: "weir: --wait: 1m0s is not shorter than --timeout, 5s"},
	{why: "a file in place of the flag", args: "apply FILE", says: "weir: unexpected argument ", yaml: podYAML},
	{why: "a file in place of the flag, which is named", args: "apply FILE", says: "(did you mean --config FILE?)", yaml: podYAML},
	{why: "a word too many", args: "version now", says: `weir: unexpected argument "now" of weir version`},
	{why: "two namespaces", args: "show --netns a --pid 1", says: "weir: --netns and --pid exclude each other"},
	{why: "a namespace from an empty variable", args: "apply -f FILE --netns=", yaml: podYAML, says: "weir: --netns: is empty"},
	{why: "what is not a namespace", args: "show --netns /proc/self/status", says: "weir: --netns: /proc/self/status is not a network namespace"},
	{why: "a folder", args: "apply -f FILE --netns /", yaml: podYAML, says: "weir: --netns: / is not a network namespace"},
	{why: "another kind of namespace", args: "show --netns /proc/self/ns/mnt", says: "weir: --netns: /proc/self/ns/mnt is not a network namespace"},
	{why: "no configuration", args: "apply", says: "weir: there is no configuration (want --config FILE"},
	{why: "none on standard input", args: "apply -f -", says: "weir: standard input: holds no configuration"},
	{why: "none in the file", args: "apply -f FILE", yaml: "# nothing\n", says: "holds no configuration"},
	{why: "no such file", args: "plan -f FILE.txt", says: "no such file or directory"},
	{why: "no table's name", args: "remove --table a/b", says: `weir: --table: "a/b" is not a table name`},
	{why: "a trace's table", args: "remove --table weir-trace-1", says: `weir: --table: "weir-trace-1" is taken`},
	{why: "a pod from an empty variable", args: "remove --pod=", says: `weir: --pod: "" is not a pod's UID`},
	{why: "a helper table", args: "remove --table weir-lock", says: `weir: --table: "weir-lock" is taken`},
	{why: "no table's name, to verify", args: "verify --table 4", says: `weir: --table: "4" is not a table name`},
	{why: "an empty name", args: "remove --table=", says: "weir: --table: is empty"},
	{why: "an environment that is none", args: "apply --mode sidecar --proxy-uids 1 --environment FILE", yaml: "ipv4: true\nresolvers: [x]\n",
		says: "FILE:1:1: ipv4: unknown key (did you mean ipv6?)\nFILE:2:13: resolvers: \"x\" is not an address"},
	{why: "no environment", args: "plan --mode sidecar --proxy-uids 1 --environment FILE.txt", says: "weir: --environment: open FILE.txt: no such file"},
	{why: "flags alone", args: "apply --mode sidecar --proxy-uids root,4294967295 --outbound-exclude-ports 22,70000 --inbound-via tproxi", exact: true,
		says: "weir: --proxy-uids: \"4294967295\" is not a user id (want 0-4294967294, or a range such as 1000-2000)\n" +
			"--inbound-via: \"tproxi\" is not one of: redirect, tproxy, marks, none\n" +
			"--outbound-exclude-ports: \"70000\" is not a port (want a number of 1-65535, a range such as 8000-8100, or a service such as https)\n"},
	{why: "a list in a file", args: "apply --mode sidecar --proxy-uids 1 --outbound-exclude-cidrs @FILE", yaml: "10.0.0.0/8\n# none of ours\n10.0.0.0/33, fe80::/129\n", exact: true,
		says: "weir: --outbound-exclude-cidrs: FILE:3: \"10.0.0.0/33\" is not an address or prefix (want 10.0.0.0/8, 192.0.2.1 or fd00::/8)\n" +
			"--outbound-exclude-cidrs: FILE:3: \"fe80::/129\" is not an address or prefix (want 10.0.0.0/8, 192.0.2.1 or fd00::/8)\n"},
	{why: "no list in a file", args: "apply --mode sidecar --proxy-uids 1 --outbound-exclude-cidrs @FILE.txt", says: "--outbound-exclude-cidrs: open FILE.txt: no such file"},
}

// What the configuration's reference calls an error.
var wrongConfiguration = []wrong{
	{why: "a key that is none", yaml: podYAML + "outbounds: {}\n", says: "FILE:4:1: outbounds: unknown key (did you mean outbound?)"},
	{why: "a key that is none, within", yaml: podYAML + "outbound: {excludePort: [1]}\n", says: "FILE:4:12: outbound.excludePort: unknown key (did you mean outbound.excludePorts?)"},
	{why: "a key in the wrong section", yaml: podYAML + "excludeCIDRs: [10.0.0.0/8]\n", says: "FILE:4:1: excludeCIDRs: unknown key (did you mean outbound.excludeCIDRs?)"},
	{why: "istio-init's flag for a key", yaml: "mode: sidecar\nproxyUID: 1\n", says: "FILE:2:1: proxyUID: unknown key"},
	{why: "a key that the mode does not use", yaml: "mode: none\nproxy: {uids: [1]}\n", says: "FILE:2:9: proxy.uids: is not used by mode none (it is by sidecar)"},
	{why: "no mode", yaml: "version: 1\n", says: "FILE: mode: is missing"},
	{why: "no such mode", yaml: "mode: sidecart\n", says: `FILE:1:7: mode: "sidecart" is not a mode (did you mean sidecar?)`},
	{why: "another version", yaml: "version: 2\nmode: none\n", says: `FILE:1:10: version: "2" is not known (want 1)`},
	{why: "whose traffic is never captured", yaml: "mode: sidecar\n", says: "FILE: proxy: needs uids, gids or a mark"},
	{why: "an inbound that captures nothing", yaml: podYAML + "inbound: {includePorts: []}\n", says: "FILE:4:11: inbound.includePorts: captures nothing (want ports, all, or inbound.via: none)"},
	{why: "an outbound that captures nothing", yaml: podYAML + "outbound:\n  includeCIDRs: []\n", says: "FILE:5:3: outbound.includeCIDRs: captures nothing"},
	{why: "groups that capture nothing", yaml: podYAML + "outbound: {includeGIDs: none}\n", says: "outbound.includeGIDs: captures nothing"},
	{why: "a word that is none", yaml: podYAML + "dns: {capture: enabled}\n", says: `FILE:4:16: dns.capture: "enabled" is not one of: none, servers, all`},
	{why: "a boolean where it could mean two things", yaml: podYAML + "dns: {capture: on}\n", says: `dns.capture: "on" is not one of: none, servers, all`},
	{why: "an IPv6 word that is none", yaml: podYAML + "ipv6: both\n", says: `FILE:4:7: ipv6: "both" is not one of: auto, enabled, disabled`},
	{why: "no port", yaml: podYAML + "inbound: {port: 0}\n", says: `FILE:4:17: inbound.port: "0" is not a port (want a number of 1-65535, or a range that the proxy listens on)`},
	{why: "a reversed range", yaml: podYAML + "inbound: {excludePorts: [8100-8000]}\n", says: `"8100-8000" is a reversed range (want 8000-8100)`},
	{why: "no prefix", yaml: podYAML + "outbound: {excludeCIDRs: [10.0.0.0/33]}\n", says: `FILE:4:27: outbound.excludeCIDRs: "10.0.0.0/33" is not an address or prefix`},
	{why: "everything excluded", yaml: podYAML + "outbound: {excludeCIDRs: all}\n", says: "would leave everything alone (want outbound.via: none for that)"},
	{why: "no user", yaml: "mode: sidecar\nproxy: {uids: [4294967295]}\n", says: `FILE:2:16: proxy.uids: "4294967295" is not a user id (want 0-4294967294, or a range such as 1000-2000)`},
	{why: "no mark", yaml: "mode: sidecar\nproxy: {mark: red}\n", says: `proxy.mark: "red" is not a mark`},
	{why: "a mark that its mask hides", yaml: "mode: sidecar\nproxy: {mark: 0x1000/0xfff}\n", says: "has bits outside its mask: it never matches"},
	{why: "no interface", yaml: podYAML + "interfaces: {exclude: [eth0/1]}\n", says: `"eth0/1" is not an interface name`},
	{why: "an interface's name too long", yaml: podYAML + "interfaces: {reroute: [abcdefghijklmnop]}\n", says: "is 16 bytes long (an interface name has at most 15)"},
	{why: "no loopback", yaml: podYAML + "loopback: {cidr: 10.0.0.0/8}\n", says: "is not an IPv4 loopback prefix (want one within 127.0.0.0/8)"},
	{why: "resolvers for nothing", yaml: podYAML + "dns: {servers: [10.0.0.1]}\n", says: "dns.servers: is used only with dns.capture: servers"},
	{why: "two marks that are one", yaml: podYAML + "inbound: {via: tproxy}\nrouting: {mark: 5, loopMark: 0x5}\n", says: `routing.loopMark: "0x5" does not tell its packets from those of routing.mark, 5 (want another)`},
	{why: "the system's own routing table", yaml: podYAML + "inbound: {via: tproxy}\nrouting: {table: 254}\n", says: "is one of the system's own tables"},
	{why: "no table's name", yaml: podYAML + "table: 'inet weir'\n", says: `FILE:4:8: table: "inet weir" is not a table name`},
	{why: "a key twice", yaml: podYAML + "mode: none\n", says: "FILE:4:1: mode: is written twice (first in line 2)"},
	{why: "a list for one word", yaml: podYAML + "inbound: {port: [1, 2]}\n", says: "FILE:4:17: inbound.port: is a list (want one word)"},
	{why: "a word for a section", yaml: podYAML + "inbound: off\n", says: "FILE:4:10: inbound: is one word (want keys: via, port"},
	{why: "two documents", yaml: podYAML + "---\n" + podYAML, says: "a second document begins (want one a file)"},
	{why: "a list for a document", yaml: "- mode\n", says: "FILE:1:1: is a list (want keys, at least:"},
	{why: "a bare star", yaml: podYAML + "outbound: {includeCIDRs: *}\n", says: `* begins an alias (want "*" in quotes, or all)`},
	{why: "a tab", yaml: "mode: sidecar\nproxy:\n\tuids: [1]\n", says: "FILE:3:1: a tab indents this line (want spaces)"},
	{why: "no YAML", yaml: "mode: [sidecar\n", says: "is not YAML"},
	{why: "no text", yaml: "mode: sidecar\x00\n", says: "FILE:1:14: holds a control character"},
	{why: "all of it in one message, with places", yaml: "version: 1\nmode: sidecar\nproxy: {uid: [1337]}\noutbound:\n  excludePorts: [22, 70000]\n  excludeCIDRs: [10.0.0.0/33]\ninbound: {via: tproxi}\n", exact: true,
		says: "weir: FILE:3:9: proxy.uid: unknown key (did you mean proxy.uids?)\n" +
			"FILE:5:22: outbound.excludePorts: \"70000\" is not a port (want a number of 1-65535, a range such as 8000-8100, or a service such as https)\n" +
			"FILE:6:18: outbound.excludeCIDRs: \"10.0.0.0/33\" is not an address or prefix (want 10.0.0.0/8, 192.0.2.1 or fd00::/8)\n" +
			"FILE:7:16: inbound.via: \"tproxi\" is not one of: redirect, tproxy, marks, none\n"},
	{why: "the file's and the flags', the file's first, and names that do not exist", args: "verify -f FILE --dns-port x", yaml: "mode: sidecar\nproxy: {uids: [x y]}\ndns: {capture: some, port: y}\n", exact: true,
		says: "weir: FILE:2:16: proxy.uids: \"x y\" is neither a number nor a user known here\n" +
			"FILE:3:16: dns.capture: \"some\" is not one of: none, servers, all\n--dns-port: \"x\" is not a port (want a number of 1-65535)\n"},
}

// TestWrongUsage is told in one message and ends with 2, before a netlink socket
// is opened: the kernel ends a run that opens one.
func TestWrongUsage(t *testing.T) {
	c := newCLI(t).with(func(c *cli) { c.guard = true })
	if o := c.run("show"); o.signal != syscall.SIGSYS {
		t.Fatalf("the guard does not end what it should: %s", o)
	}
	for _, w := range wrongUsage {
		w.test(t, c)
	}
	for _, w := range wrongConfiguration {
		if w.args != "" {
			w.test(t, c)
			continue
		}
		for _, command := range []string{"plan -f FILE", "apply --json --config FILE", "verify --wait 5s --config=FILE"} {
			w.args = command
			w.test(t, c)
		}
	}
}

func (w wrong) test(t *testing.T, c *cli) {
	t.Run(w.why+", "+strings.Fields(w.args)[0], func(t *testing.T) {
		c, file := c.with(func(c *cli) { c.TB = t }), filepath.Join(t.TempDir(), "pod.yaml")
		if err := os.WriteFile(file, []byte(w.yaml), 0o644); err != nil {
			t.Fatal(err)
		}
		o := c.run(strings.Fields(strings.ReplaceAll(w.args, "FILE", file))...).want(t, 2)
		if o.out != "" {
			t.Errorf("it printed to standard output:\n%s", o.out)
		}
		said := strings.ReplaceAll(o.errs, file, "FILE")
		if w.exact && said != w.says {
			t.Errorf("it said\n%s\nwant\n%s", said, w.says)
		}
		if !strings.Contains(said, w.says) {
			t.Errorf("it said\n%s\nwant\n%s", said, w.says)
		}
		if !strings.HasPrefix(said, "weir: ") || strings.Count(said, "weir: ") != 1 || !strings.HasSuffix(said, "\n") {
			t.Errorf("not one message:\n%s", said)
		}
	})
}

// TestHelp is told on standard output, and asks the kernel nothing.
func TestHelp(t *testing.T) {
	c := newCLI(t).with(func(c *cli) { c.guard = true })
	for line, prints := range map[string]string{
		"":                  "COMMANDS:\n   plan ",
		"--help":            "COMMANDS:\n   plan ",
		"help":              "COMMANDS:\n   plan ",
		"help apply":        "--outbound-exclude-cidrs LIST",
		"apply --help":      "--outbound-exclude-cidrs LIST",
		"verify -h":         "--wait TIME",
		"show --json -h":    "--netns NAME|PATH",
		"remove --pid 1 -h": "--timeout TIME",
		"istio-init --help": "--istio-service-exclude-cidr string",
		"istio-iptables -h": "--istio-service-exclude-cidr string",
		"version":           "weir dev\n",
	} {
		if o := c.run(strings.Fields(line)...).want(t, 0).prints(t, prints); o.errs != "" {
			t.Errorf("it says on standard error: %s", o)
		}
	}
	type versionJSON struct{ Version, Go, OS, Arch string }
	if v := jsonOf[versionJSON](t, c.ok("version", "--json")); v.Version != "dev" || !strings.HasPrefix(v.Go, "go1.") || v.OS != "linux" || v.Arch == "" {
		t.Errorf("the version is %+v", v)
	}
}
