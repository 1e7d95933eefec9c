// SPDX-License-Identifier: Apache-2.0

//go:build linux

package integration

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// istio runs istio-init with a line of flags.
func (c *cli) istio(flags string, more ...string) outcome {
	c.Helper()
	return c.run(append(append([]string{"istio-init"}, more...), words(flags)...)...)
}

// words are those of a line, where a pair of quotes is an empty one.
func words(line string) []string {
	out := strings.Fields(line)
	for i, w := range out {
		out[i] = strings.Trim(w, "'")
	}
	return out
}

// printed is what istio-init says that its arguments come to.
func (c *cli) printed(flags string) string {
	c.Helper()
	return c.istio(flags, "--print-config").want(c, 0).out
}

// TestIstioConfigurations: for the arguments of every table of the reference,
// the configuration that is printed makes, verifies and plans the same state.
func TestIstioConfigurations(t *testing.T) {
	t.Parallel()
	root := podRoot(t)
	for _, table := range sidecarTables(t) {
		t.Run(table.Config, func(t *testing.T) {
			t.Parallel()
			c := &cli{namespace: newNamespace(t), chroot: root, env: environ(table)}
			c.dualStack()
			pristine, routing := c.nft("list ruleset"), c.captureRouting()
			changes := c.watch()
			dry := c.run(append([]string{"istio-init", "--dry-run"}, table.Args...)...).want(t, 0)
			config := c.run(append([]string{"istio-init", "--print-config"}, table.Args...)...).want(t, 0)
			if sent := changes(); len(sent) > 0 {
				t.Errorf("it sent %v", sent)
			}

			c.run(append([]string{"istio-init"}, table.Args...)...).want(t, 0).says(t, "outcome=created")
			c.feed(config.out, "verify", "-f", "-").want(t, 0).prints(t, "clean: inet weir")
			c.run("verify").want(t, 0)
			if plan := c.feed(config.out, "plan", "-f", "-", "--exit-code").want(t, 0); plan.out != dry.out+"# nothing differs from now\n" {
				t.Errorf("planned\n%s\ndry\n%s", plan.out, dry.out)
			}
			live := c.shown()
			c.run(append([]string{"istio-init"}, table.Args...)...).want(t, 0).says(t, "outcome=unchanged", "state="+live.State)

			other := c.elsewhere(t)
			other.dualStack()
			applied := jsonOf[resultJSON](t, other.feed(config.out, "apply", "-f", "-", "--json").want(t, 0).out)
			if applied.Outcome != "created" || applied.State != live.State || !reflect.DeepEqual(other.shown().uncounted(), live.uncounted()) {
				t.Errorf("istio-init made %+v, its configuration %+v", live, other.shown())
			}

			c.istio("--cleanup-only").want(t, 0).says(t, "outcome=removed")
			if d := changed(pristine, c.nft("list ruleset")) + changed(routing, c.captureRouting()); d != "" {
				t.Errorf("cleaned up, it left\n%s", d)
			}
		})
	}
}

// TestIstioPrecedence: a default loses to the environment, and that to the
// command line.
func TestIstioPrecedence(t *testing.T) {
	t.Parallel()
	c := newCLI(t)
	for _, tt := range []struct {
		why   string
		env   []string
		flags string
		want  []string // of the configuration
		not   []string
	}{
		{"defaults", nil, "", []string{"port: \"15006\"", "tunnelPort: \"15008\"", "port: \"15001\"", "uids:\n    - \"1337\"", "gids:\n    - \"1337\"", "via: none", "capture: none"}, nil},
		{"a variable wins over the default", []string{"INBOUND_CAPTURE_PORT=1", "ISTIO_INBOUND_PORTS=*"}, "", []string{"port: \"1\"", "- \"*\""}, nil},
		{"the command line wins over the variable", []string{"INBOUND_CAPTURE_PORT=1", "PROXY_UID=5", "ISTIO_SERVICE_CIDR=10.0.0.0/8"}, "-z 2 -u 6", []string{"port: \"2\"", "- \"6\"", "10.0.0.0/8"}, []string{"\"1\"", "\"5\""}},
		{"an empty value is a value", []string{"ISTIO_SERVICE_CIDR=10.0.0.0/8"}, "-i ''", []string{"outbound:\n  via: none"}, []string{"10.0.0.0"}},
		{"the outbound port has no variable", []string{"ENVOY_PORT=1"}, "-i *", []string{"port: \"15001\""}, nil},
		{"the last of repeats wins", nil, "-p 1 -p15001 -p=2 --envoy-port=3 --envoy-port 4", []string{"port: \"4\""}, []string{"port: \"15001\""}},
		{"joined short flags", nil, "-p15002 -u7 -g8", []string{"port: \"15002\"", "- \"7\"", "- \"8\""}, nil},
		{"groups are the users without their own flag", nil, "-u 3,4", []string{"gids:\n    - \"3\"\n    - \"4\""}, nil},
		{"stray words are none", nil, "now -p 1 and then -i * please", []string{"port: \"1\"", "- \"*\""}, []string{"now", "please"}},
		{"the program's own name", nil, "istio-iptables -p 5", []string{"port: \"5\""}, nil},
		{"a bare switch", nil, "--redirect-dns", []string{"capture: servers"}, nil},
		{"a switch off", []string{"REDIRECT_DNS=true"}, "--redirect-dns=false", []string{"capture: none"}, nil},
		{"a further variable wins over the main one", []string{"REDIRECT_DNS=true", "ISTIO_META_DNS_CAPTURE=false", "DROP_INVALID=false", "INVALID_DROP=true"}, "", []string{"capture: none", "dropInvalid: enabled"}, nil},
		{"one that does not parse turns the switch off", []string{"REDIRECT_DNS=true", "ISTIO_META_DNS_CAPTURE=maybe", "DROP_INVALID=1", "INVALID_DROP=?"}, "", []string{"capture: none", `# ISTIO_META_DNS_CAPTURE="maybe" is not a bool: redirect-dns is off`}, []string{"dropInvalid"}},
		{"so does an empty one", []string{"REDIRECT_DNS=true", "ISTIO_META_DNS_CAPTURE=", "DROP_INVALID="}, "", []string{"capture: none", `# ISTIO_META_DNS_CAPTURE="" is not a bool: redirect-dns is off`}, []string{"DROP_INVALID"}},
		{"the command line turns it on again", []string{"ISTIO_META_DNS_CAPTURE=maybe"}, "--redirect-dns", []string{"capture: servers"}, nil},
		{"nor does the main one zero a default", []string{"PROBE_TIMEOUT=soon"}, "", []string{`# PROBE_TIMEOUT="soon" is ignored`}, nil},
		{"the command line wins over a further variable", []string{"ISTIO_META_DNS_CAPTURE=true"}, "--redirect-dns=false", []string{"capture: none"}, nil},
		{"all DNS only with DNS", nil, "--capture-all-dns", []string{"capture: none", "# capture-all-dns counts only with redirect-dns"}, nil},
		{"exclusion wins over inclusion", nil, "-q 80,443 -o 80,90", []string{"includePorts:\n    - \"443\"", "excludePorts:\n    - \"80\"\n    - \"90\""}, nil},
		{"a range that is excluded in part", nil, "-q 1-10 -o 5", []string{"- 1-4\n    - 6-10"}, nil},
		{"excluded inbound ports only with all", nil, "-b 80 -d 90", []string{"# istio-local-exclude-ports counts only with"}, []string{"\"90\""}},
		{"the reference's ranges and wildcards", nil, "-b 8000:9000 -c eth+ -i *", []string{"8000:9000", "eth+"}, nil},
		{"owner groups from the environment alone", []string{"ISTIO_OUTBOUND_OWNER_GROUPS=202", "ISTIO_OUTBOUND_IPV4_LOOPBACK_CIDR=127.0.0.0/8"}, "-i *", []string{"includeGIDs:\n    - \"202\"", "cidr: 127.0.0.0/8"}, nil},
		{"excluded owner groups without included ones", []string{"ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE=1,2"}, "-i *", []string{"excludeGIDs:\n    - \"1\"\n    - \"2\""}, []string{"includeGIDs"}},
		{"excluded owner groups beside all of them", []string{"ISTIO_OUTBOUND_OWNER_GROUPS=*", "ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE=1"}, "-i *", []string{"excludeGIDs:\n    - \"1\""}, []string{"includeGIDs", "is ignored"}},
		{"an include list makes the exclude list void, and a remark says so", []string{"ISTIO_OUTBOUND_OWNER_GROUPS=202,888", "ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE=888"}, "-i *",
			[]string{"includeGIDs:\n    - \"202\"\n    - \"888\"", "# ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE counts only while all groups are captured: 888 is ignored"}, []string{"excludeGIDs"}},
		{"a group on the exclude list alone is no longer named", []string{"ISTIO_OUTBOUND_OWNER_GROUPS=202", "ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE=1,2"}, "-i *", []string{"includeGIDs:\n    - \"202\""}, []string{"excludeGIDs"}},
		{"an empty include list includes no group", []string{"ISTIO_OUTBOUND_OWNER_GROUPS=", "ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE=1"}, "-i * --redirect-dns",
			[]string{"outbound:\n  via: none", "includeGIDs: []", "capture: servers", "# ISTIO_OUTBOUND_OWNER_GROUPS is empty"}, []string{"excludeGIDs"}},
		{"so does one of commas", []string{"ISTIO_OUTBOUND_OWNER_GROUPS=,"}, "-i *", []string{"outbound:\n  via: none", "includeGIDs: []"}, nil},
		{"what is rerouted has no group, and stays captured", []string{"ISTIO_OUTBOUND_OWNER_GROUPS="}, "-i * -k eth1", []string{"outbound:\n  via: redirect", "includeGIDs: []"}, nil},
		{"TPROXY without inbound ports sets marks and captures nothing", nil, "-i * -m TPROXY -t 273 -r 100", []string{"via: marks", "mark: \"273\""}, []string{"via: tproxy"}},
		{"what is rerouted ignores the exclusions", nil, "-i * -x 10.0.0.0/8 -k eth1,tap+", []string{"reroute:\n    - name: eth1\n      exclusions: ignored\n    - name: tap+\n      exclusions: ignored\n"}, nil},
		{"TPROXY has whole marks", nil, "-b * -m TPROXY", []string{"mask: \"0xffffffff\""}, []string{"loopMark"}},
		{"but under a mask that the environment names", []string{"WEIR_MARK_MASK=0xfff"}, "-b * -m TPROXY", []string{"mask: \"0xfff\""}, nil},
		{"the mark of the proxy's calls to its own pod for both", nil, "-b * -m TPROXY -t 1338", []string{"mark: \"1338\"", "loopMark: \"1338\""}, nil},
		{"REDIRECT without inbound ports does nothing inbound", nil, "-i * -m REDIRECT", []string{"inbound:\n  via: none"}, nil},
	} {
		t.Run(tt.why, func(t *testing.T) {
			got := c.with(func(c *cli) { c.TB, c.env = t, tt.env }).printed(tt.flags)
			for _, w := range tt.want {
				if !strings.Contains(got, w) {
					t.Errorf("want %q in\n%s", w, got)
				}
			}
			for _, w := range tt.not {
				if strings.Contains(got, w) {
					t.Errorf("there is %q in\n%s", w, got)
				}
			}
		})
	}
	if a, b := c.printed("-p 7 -i *"), c.run("istio-iptables", "--print-config", "-p", "7", "-i", "*").want(t, 0).out; a != b {
		t.Errorf("istio-iptables prints\n%s\nistio-init\n%s", b, a)
	}
}

// TestIstioDualStack: which family of addresses counts depends on their order,
// or with dual stack on any.
func TestIstioDualStack(t *testing.T) {
	t.Parallel()
	c := newCLI(t)
	c.dualStack()
	for _, tt := range []struct {
		env   []string
		flags string
		want  string
	}{
		{nil, "", "ipv6: disabled"},
		{nil, "--dual-stack", "ipv6: enabled"},
		{[]string{"DUAL_STACK=false", "ISTIO_DUAL_STACK=true"}, "", "ipv6: enabled"},
		{[]string{"DUAL_STACK=true", "ISTIO_DUAL_STACK=false"}, "", "ipv6: disabled"},
		{[]string{"DUAL_STACK=true", "ISTIO_DUAL_STACK=both"}, "", "ipv6: disabled"},
	} {
		if got := c.with(func(c *cli) { c.env = tt.env }).printed(tt.flags); !strings.Contains(got, tt.want) {
			t.Errorf("%v %s: want %s in\n%s", tt.env, tt.flags, tt.want, got)
		}
	}
}

// TestIstioFlags: ranges, wildcards and ports in both lists do what they say.
func TestIstioFlags(t *testing.T) {
	t.Parallel()
	c := newCLI(t)
	c.istio("-i * -b 8000:9000,80 -c eth+,lo9 -q 1-10 -o 5").want(t, 0)
	sets := map[string][]string{}
	for _, s := range c.shown().Sets {
		sets[s.Name] = s.Elements
	}
	for name, want := range map[string][]string{
		"inbound_include_ports":   {"80", "8000-9000"},
		"exclude_interfaces":      {`"lo9"`},
		"exclude_interfaces_wild": {`"eth*"`},
		"outbound_exclude_ports":  {"5"},
		"outbound_include_ports":  {"1-4", "6-10"},
	} {
		if !slices.Equal(sets[name], want) {
			t.Errorf("set %s holds %q, want %q", name, sets[name], want)
		}
	}
	before := c.nft("list ruleset")
	c.istio("--cleanup-only --dry-run").want(t, 0).prints(t, "everything of table inet weir is removed")
	c.istio("-p 1 -i * --skip-rule-apply").want(t, 0).says(t, "the rules are left as they are")
	c.istio("-p 1 -i * --dry-run").want(t, 0).prints(t, "redirect to :1 ")
	file := filepath.Join(t.TempDir(), "plan")
	toFile := c.with(func(c *cli) { c.env = []string{"DRY_RUN_FILE_PATH=" + file} })
	if out := toFile.istio("-p 1 -i * --dry-run").want(t, 0).out; readFile(t, file) != out || out == "" {
		t.Errorf("the plan's file holds\n%s\nprinted was\n%s", readFile(t, file), out)
	}
	c.istio("-p '' -i * --dry-run").want(t, 0).says(t, "envoy-port is empty: its default, 15001, is used").prints(t, "redirect to :15001 ")
	if d := changed(before, c.nft("list ruleset")); d != "" {
		t.Errorf("changed:\n%s", d)
	}
	c.istio("-i * -m TPROXY -b *").want(t, 0).says(t, "outcome=replaced")
	c.istio("--cleanup-only --skip-rule-apply").want(t, 0).says(t, "the rules are left as they are")
	if ours := c.ours(); len(ours) != 2 {
		t.Errorf("the routing of ours is %q", ours)
	}
	c.istio("-i * -m TPROXY -b *").want(t, 0).says(t, "outcome=unchanged") // no twin of the policy rule
	c.istio("--cleanup-only").want(t, 0).says(t, "outcome=removed")
	c.istio("--cleanup-only").want(t, 0).says(t, "outcome=absent")
	if left := append(c.tables(), c.ours()...); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
	c.istio("--help").want(t, 0).prints(t, "-p, --envoy-port", "--istio-service-exclude-cidr", "--print-config")
}

// TestIstioOneListener: one port for two listeners has a meaning, to istio-init and
// to the other commands.
func TestIstioOneListener(t *testing.T) {
	t.Parallel()
	c := newCLI(t)
	const flags = "-i * -b * -p 15006"
	c.istio(flags).want(t, 0).says(t, "--envoy-port: 15006 is --inbound-capture-port too: one listener has to serve for both", "outcome=created")
	c.feed(c.printed(flags), "verify", "-f", "-").want(t, 0).says(t, "outbound.port: 15006 is inbound.port too: one listener has to serve for both")
}

// TestIstioNetworkNamespace works in the namespace that is named, from the
// reading of addresses to the connections of a validation.
func TestIstioNetworkNamespace(t *testing.T) {
	t.Parallel()
	c, other := newCLI(t), newNamespace(t)
	other.outside()
	other.nft(othersCapture)
	path := fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), other.file.Fd())
	there := func(flags string, more ...string) outcome {
		return c.istio(flags, append(more, "--network-namespace", path)...)
	}
	wantTables := func(n int) {
		t.Helper()
		if here, there := c.tables(), other.tables(); len(here) != 0 || len(there) != n {
			t.Errorf("tables here %v, there %v", here, there)
		}
	}
	there("-i * -b *", "--run-validation", "--skip-rule-apply").want(t, 0).says(t, "a connection is tried", "validated: outbound ipv4 connections are captured")
	wantTables(0)
	there("-i * -b *").want(t, 0).says(t, "outcome=created")
	wantTables(1)
	there("-i * -b *", "--run-validation").want(t, 0).says(t, "outcome=unchanged", "validated: the rules are as wanted")
	there("--cleanup-only").want(t, 0).says(t, "outcome=removed")
	wantTables(0)
	c.istio("-i * --network-namespace /nowhere").want(t, 2).says(t, "--network-namespace: there is no such namespace: open /nowhere")
	c.istio("-i * --network-namespace /proc/self/ns/mnt").want(t, 2).says(t, "--network-namespace: /proc/self/ns/mnt is not a network namespace")

	if oneUser() {
		return
	}
	// The present one takes no privilege to enter.
	c.with(func(c *cli) { c.uid, c.caps = 1000, []uintptr{unix.CAP_NET_ADMIN} }).
		istio("-i * --network-namespace /proc/self/ns/net").want(t, 0).says(t, "outcome=created")
}

// TestIstioWithoutResolver: as in the reference, a resolv.conf that names no server turns DNS capture
// off, and one that cannot be read is an error.
func TestIstioWithoutResolver(t *testing.T) {
	t.Parallel()
	c := &cli{namespace: newNamespace(t), chroot: podRoot(t)}
	file := filepath.Join(c.chroot, "etc", "resolv.conf")
	if err := os.WriteFile(file, []byte("search svc.cluster.local\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	const why = "resolv.conf names no server: DNS is not captured, as in the reference"
	c.istio("-i * -b * --redirect-dns").want(t, 0).says(t, "level=WARN", why, "outcome=created")
	c.istio("-i * -b *").want(t, 0).says(t, "outcome=unchanged")
	c.istio("-i * -b * --redirect-dns --print-config").want(t, 0).prints(t, why, "capture: none")
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	c.istio("-i * -b * --redirect-dns").want(t, 1).says(t, "--redirect-dns: no resolver is known (want resolv.conf, --capture-all-dns, or none) (open /etc/resolv.conf: no such file or directory)")
}

// TestIstioWrongValues: all of them at once, with 2, before a netlink socket is
// opened.
func TestIstioWrongValues(t *testing.T) {
	t.Parallel()
	c := newCLI(t).with(func(c *cli) { c.guard = true })
	for flags, says := range map[string][]string{
		"--frobnicate":                         {"unknown flag: --frobnicate"},
		"--proxyuid 1":                         {"unknown flag: --proxyuid (did you mean --proxy-uid?)"},
		"-p":                                   {"flag needs an argument"},
		"-b all -c none,eth0":                  {"--istio-inbound-ports: ", "--istio-exclude-interfaces: ", "means nothing here"},
		"--force-iptables-binary bogus":        {"--force-iptables-binary: ", "is neither legacy nor nft"},
		"--dry-run=perhaps":                    {"invalid argument"},
		"--run-validation --probe-timeout=-1s": {"--probe-timeout: -1s is not a time to try in"},
		"-p 65536":                             {`--envoy-port: \"65536\" is not a port`},
		"--log_output_level=loud":              {`--log_output_level: \"loud\" is not a level (want debug, info, warn, error, fatal or none)`},
		"--log_output_level=default:info,ads:": {`--log_output_level: \"\" is not a level`},
		"-x *":                                 {`--istio-service-exclude-cidr: \"*\" excludes everything`},
		"-i 10.0.0.0/99,x":                     {`--istio-service-cidr: \"10.0.0.0/99\"`, `--istio-service-cidr: \"x\"`},
		"-d * -b *":                            {`--istio-local-exclude-ports: \"*\" would leave everything alone (want an empty --istio-inbound-ports for that)`},
		"-u 99999999999":                       {`--proxy-uid: \"99999999999\" is not a user id`},
		"-k verylonginterface":                 {"--kube-virt-interfaces:", "at most 15"},
		"-m TPROXY -b * -t red -r main":        {"--istio-inbound-tproxy-mark:", "--istio-inbound-tproxy-route-table:"},
		"-p x -z y -e z -b a -q b -o c -x 10.0.0.0/8/9 -c a/b": {"--envoy-port:", "--inbound-capture-port:", "--inbound-tunnel-port:", "--istio-inbound-ports:",
			"--istio-outbound-ports:", "--istio-local-outbound-ports-exclude:", "--istio-service-exclude-cidr:", "--istio-exclude-interfaces:"},
	} {
		for _, more := range [][]string{nil, {"--dry-run"}, {"--log_as_json"}} {
			o := c.istio(flags, more...).want(t, 2).says(t, says...)
			if strings.Count(o.errs, "ERROR") != 1 || strings.Contains(o.errs, "weir: ") {
				t.Errorf("not one message: %s", o)
			}
		}
	}
	c.with(func(c *cli) { c.env = []string{"WEIR_MARK_MASK=all"} }).istio("-i *").want(t, 2).says(t, `WEIR_MARK_MASK: \"all\" is not a mask of mark bits`)
	c.with(func(c *cli) { c.env = []string{"WEIR_MARK_MASK=0xff"} }).istio("-i * -b * -m TPROXY").want(t, 2).
		says(t, `--istio-inbound-tproxy-mark: \"1337\" has bits outside its mask, 0xff of WEIR_MARK_MASK`)
	c.with(func(c *cli) {
		c.env = []string{"ISTIO_OUTBOUND_IPV4_LOOPBACK_CIDR=10.0.0.0/8", "ISTIO_OUTBOUND_OWNER_GROUPS=4294967295"}
	}).
		istio("-i *").want(t, 2).says(t, "ISTIO_OUTBOUND_IPV4_LOOPBACK_CIDR: ", "ISTIO_OUTBOUND_OWNER_GROUPS: ")
}

// TestIstioLogs: one record a line, as much as is asked for.
func TestIstioLogs(t *testing.T) {
	t.Parallel()
	c := newCLI(t)
	type record struct {
		Level, Msg                                  string
		Time                                        string
		NFT, YAML                                   string
		Outcome, State, Table, Read, Commit, Verify string
		Flags, Environment                          []string
	}
	said := c.istio("-i * -b *", "--log_as_json").want(t, 0).errs
	var messages []string
	for line := range strings.Lines(said) {
		var r record
		if err := json.Unmarshal([]byte(line), &r); err != nil || r.Time == "" || r.Level == "" {
			t.Fatalf("no record: %v: %s", err, line)
		}
		messages = append(messages, r.Msg)
		switch r.Msg {
		case "arguments":
			if !slices.Contains(r.Flags, "istio-service-cidr=*") {
				t.Errorf("the arguments are %+v", r)
			}
		case "resolved configuration":
			if !strings.Contains(r.YAML, "mode: sidecar\n") {
				t.Errorf("the configuration is %+v", r)
			}
		case "ruleset as applied":
			if !strings.Contains(r.NFT, "redirect to :15001") {
				t.Errorf("the ruleset is %+v", r)
			}
		case "applied":
			if r.Outcome != "created" || r.State == "" || r.Table != "weir" || r.Read == "" || r.Commit == "" || r.Verify == "" {
				t.Errorf("the outcome is %+v", r)
			}
		}
	}
	if want := []string{"arguments", "resolved configuration", "ruleset as applied", "applied"}; !slices.Equal(messages, want) {
		t.Errorf("the records are %q, want %q", messages, want)
	}
	for level, want := range map[string]bool{"default:debug": true, "default:info": true, "info": true, "default:warn": false, "default:error": false, "none": false, "ads:debug,default:none": false} {
		for _, args := range [][]string{{"--log_output_level", level}, {"--log_output_level=" + level}} {
			if said := c.istio("-i * -b *", args...).want(t, 0).errs; (said != "") != want {
				t.Errorf("%v: it said %q", args, said)
			}
		}
	}
	c.istio("-p 65536 --log_output_level=error").want(t, 2).says(t, "level=ERROR")
	many := manyCIDRs(t, 1000)
	said = c.with(func(c *cli) {
		c.env = []string{"ISTIO_SERVICE_EXCLUDE_CIDR=" + strings.ReplaceAll(readFile(t, many), "\n", ",")}
	}).istio("-i *").want(t, 0).errs
	if ruleset := said[strings.Index(said, "ruleset as applied"):]; strings.Contains(ruleset, "20.0.0.2") || !strings.Contains(ruleset, "1000 elements") {
		t.Errorf("a long list is logged whole:\n%.2000s", ruleset)
	}
}

// othersCapture are the rules of a reference engine, as far as validation looks.
const othersCapture = `
add table ip nat
add chain ip nat PREROUTING { type nat hook prerouting priority -100; }
add chain ip nat OUTPUT { type nat hook output priority -100; }
add rule ip nat PREROUTING tcp dport 1-65535 redirect to :15006
add rule ip nat OUTPUT oifname "lo" ip daddr != 127.0.0.1 tcp dport != 15008 meta skuid 1337 redirect to :15006
add rule ip nat OUTPUT meta skuid 1337 return
add rule ip nat OUTPUT oifname "lo" return
add rule ip nat OUTPUT tcp dport 1-65535 redirect to :15001
`

// TestIstioValidation: whoever's rules capture, a connection proves it, without
// privileges and as the proxy's user or another; 126 says that none does.
func TestIstioValidation(t *testing.T) {
	t.Parallel()
	needUsers(t)
	args := []string{"--skip-rule-apply", "--run-validation", "--probe-timeout", "3s"}
	for _, tt := range []struct {
		why   string
		uid   int
		nft   string
		apply bool
		flags string
		code  int
		says  string
	}{
		{"another engine's rules, as the proxy", 1337, othersCapture, false, "-i * -b *", 0, "validated: inbound ipv4 connections are captured"},
		{"another engine's rules, as an application", 1000, othersCapture, false, "-i * -b *", 0, "validated: outbound ipv4 connections are captured"},
		{"another engine's rules, as root", 0, othersCapture, false, "-i * -b *", 0, "the rules are not what weir would write; a connection is tried"},
		{"our rules, as the proxy", 1337, "", true, "-i * -b *", 0, "not compared: reading rules takes CAP_NET_ADMIN"},
		{"our rules, as root", 0, "", true, "-i * -b *", 0, "validated: the rules are as wanted"},
		{"our rules on other ports", 1337, "", true, "-i * -b * -z 16006 -p 16001", 0, "validated: inbound ipv4"},
		{"no rules, as the proxy", 1337, "", false, "-i * -b * --probe-timeout 300ms", 126, "did not arrive at 127.0.0.1:15006: it is not captured"},
		{"no rules, as an application", 1000, "", false, "-i * -b * --probe-timeout 300ms", 126, "did not arrive at 127.0.0.1:15001: it is not captured"},
		{"nothing is captured by intent", 1000, "", true, "", 126, "nothing could be validated"},
	} {
		t.Run(tt.why, func(t *testing.T) {
			t.Parallel()
			c := newCLI(t)
			c.outside()
			c.nft(tt.nft)
			if tt.apply {
				c.istio(tt.flags).want(t, 0)
			}
			c.with(func(c *cli) { c.uid = tt.uid }).istio(tt.flags, args...).want(t, tt.code).says(t, tt.says)
		})
	}
}

// TestIstioPrintConfigChangesNothing: what is printed is asked for by the flag alone,
// and whatever else is asked for is not done.
func TestIstioPrintConfigChangesNothing(t *testing.T) {
	t.Parallel()
	c := newCLI(t)
	c.with(func(c *cli) { c.env = []string{"PRINT_CONFIG=true"} }).istio("-i * -b *").want(t, 0).says(t, "outcome=created")
	before := c.snapshot()
	c.istio("-i 10.0.0.0/8 -b * --cleanup-only --print-config").want(t, 0).prints(t, "10.0.0.0/8")
	if d := changed(before, c.snapshot()); d != "" {
		t.Errorf("changed:\n%s", d)
	}
}
