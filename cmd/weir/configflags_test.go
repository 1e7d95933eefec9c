// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
	"github.com/weir-mesh/weir/config"
	"github.com/weir-mesh/weir/internal/term"
	"github.com/weir-mesh/weir/modes"
)

// load runs a command that has the configuration's flags, and nothing else.
func load(t *testing.T, stdin string, args ...string) (*config.File, error) {
	t.Helper()
	var c *config.File
	var loadErr error
	command := &cli.Command{Name: "do", Flags: configurationFlags(), Action: func(cc *cli.Context) error {
		c, loadErr = loadConfiguration(cc, cc.App.Reader)
		return nil
	}}
	app := &cli.App{
		Name: "test", Commands: []*cli.Command{command}, Reader: strings.NewReader(stdin), Writer: io.Discard, ErrWriter: io.Discard,
		ExitErrHandler: func(*cli.Context, error) {},
	}
	if err := app.Run(append([]string{"test", "do"}, permute(args, command.Flags)...)); err != nil {
		return c, err
	}
	return c, loadErr
}

// problemLines are the parts of an error, each a line.
func problemLines(err error) []string {
	if err == nil {
		return nil
	}
	return strings.Split(err.Error(), "\n")
}

// cutKey splits a path before its last key.
func cutKey(path string) (section, key string, nested bool) {
	if dot := strings.LastIndexByte(path, '.'); dot >= 0 {
		return path[:dot], path[dot+1:], true
	}
	return "", path, false
}

// file writes a file of a test and returns its name.
func file(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestFlagsSetKeys(t *testing.T) {
	cidrs := file(t, "cidrs.txt", "\ufeff# own\r\n10.0.0.0/8, 192.0.2.1\r\n\n  fd00::/8 # theirs\n198.51.100.0/24,\n")
	none := file(t, "none.txt", "# nothing\n\n")
	pod := file(t, "pod.yaml", "mode: sidecar\nproxy: {uids: [1337, 1338]}\ninbound: {port: 4143}\noutbound: {excludePorts: [22, 23]}\n")
	least := []string{"--mode", "sidecar", "--proxy-uids", "1337"}
	for _, tt := range []struct {
		why  string
		args []string
		key  string
		want []string // nil: absent
	}{
		{"a word", append(least, "--inbound-port", "4143"), "inbound.port", []string{"4143"}},
		{"a word after =", append(least, "--inbound-port=4143"), "inbound.port", []string{"4143"}},
		{"one dash is as good as two", append(least, "-inbound-port", "4143"), "inbound.port", []string{"4143"}},
		{"the same word twice is the same", append(least, "--inbound-port=4143", "--inbound-port", "4143"), "inbound.port", []string{"4143"}},
		{"what is not given is absent", least, "inbound.port", nil},
		{"a list", append(least, "--outbound-exclude-ports", "22,8000-8100"), "outbound.excludePorts", []string{"22", "8000-8100"}},
		{"a list with blanks after its commas", append(least, "--outbound-exclude-ports", "22, 23"), "outbound.excludePorts", []string{"22", "23"}},
		{"a list that is given again grows", append(least, "--outbound-exclude-ports", "22", "--outbound-exclude-ports=23,24"), "outbound.excludePorts", []string{"22", "23", "24"}},
		{"an empty list is none, not absent", append(least, "--outbound-exclude-cidrs", ""), "outbound.excludeCIDRs", []string{}},
		{"an empty list after =", append(least, "--outbound-exclude-cidrs="), "outbound.excludeCIDRs", []string{}},
		{"a list of a file", append(least, "--outbound-exclude-cidrs", "@"+cidrs), "outbound.excludeCIDRs", []string{"10.0.0.0/8", "192.0.2.1", "fd00::/8", "198.51.100.0/24"}},
		{"a list of a file and more", append(least, "--outbound-exclude-cidrs", "203.0.113.0/24", "--outbound-exclude-cidrs", "@"+none, "--outbound-exclude-cidrs=@"+cidrs),
			"outbound.excludeCIDRs", []string{"203.0.113.0/24", "10.0.0.0/8", "192.0.2.1", "fd00::/8", "198.51.100.0/24"}},
		{"a file of nothing is none", append(least, "--outbound-exclude-cidrs", "@"+none), "outbound.excludeCIDRs", []string{}},
		{"a star for all", append(least, "--inbound-include-ports", "*"), "inbound.includePorts", []string{"*"}},
		{"a key of enabled and disabled, bare", append(least, "--drop-invalid"), "dropInvalid", []string{"true"}},
		{"and with a word", append(least, "--drop-invalid=disabled"), "dropInvalid", []string{"disabled"}},
		{"a bare one takes no word that follows", append([]string{"--drop-invalid"}, least...), "mode", []string{"sidecar"}},
		{"a word that begins with a dash is a value all the same", append(least, "--table", "x", "--outbound-exclude-cidrs", ""), "table", []string{"x"}},

		{"a file alone", []string{"--config", pod}, "outbound.excludePorts", []string{"22", "23"}},
		{"a file by its short flag", []string{"-f", pod}, "inbound.port", []string{"4143"}},
		{"a file by its short flag and =", []string{"-f=" + pod}, "inbound.port", []string{"4143"}},
		{"the same file twice", []string{"--config", pod, "--config=" + pod}, "inbound.port", []string{"4143"}},
		{"a flag's word replaces the file's", []string{"-f", pod, "--inbound-port", "9"}, "inbound.port", []string{"9"}},
		{"a flag's list replaces the file's whole", []string{"--outbound-exclude-ports", "24", "-f", pod}, "outbound.excludePorts", []string{"24"}},
		{"a flag's empty list too", []string{"--outbound-exclude-ports", "", "-f", pod}, "outbound.excludePorts", []string{}},
		{"what no flag names is the file's", []string{"-f", pod, "--outbound-exclude-ports", "24"}, "proxy.uids", []string{"1337", "1338"}},
	} {
		c, err := load(t, "", tt.args...)
		if err != nil {
			t.Errorf("%s: %v", tt.why, err)
			continue
		}
		for _, k := range modes.Keys() {
			if got, set := k.Get(&c.Config); k.Path == tt.key && (set != (tt.want != nil) || set && !slices.Equal(got, tt.want)) {
				t.Errorf("%s: %s is %q, %v", tt.why, tt.key, got, set)
			}
		}
	}
}

// TestListsOfMaps: a list whose entries may be maps is written in a file and by a
// flag, which takes what a file has, and replaces the file's list.
func TestListsOfMaps(t *testing.T) {
	pod := file(t, "pod.yaml", "mode: sidecar\nproxy: {uids: [1337]}\ninterfaces: {reroute: [tap0, {name: tap1, exclusions: ignored}]}\n")
	least := []string{"--mode", "sidecar", "--proxy-uids", "1337"}
	tap0, tap1 := modes.Rerouted{Name: "tap0"}, modes.Rerouted{Name: "tap1", Exclusions: "ignored"}
	for _, tt := range []struct {
		why  string
		args []string
		want []modes.Rerouted
	}{
		{"a file", []string{"-f", pod}, []modes.Rerouted{tap0, tap1}},
		{"words", append(least, "--interfaces-reroute", "tap0,tap2"), []modes.Rerouted{tap0, {Name: "tap2"}}},
		{"a map", append(least, "--interfaces-reroute", "{name: tap1, exclusions: ignored}"), []modes.Rerouted{tap1}},
		{"a list", append(least, "--interfaces-reroute", "[tap0, {name: tap1, exclusions: ignored}]"), []modes.Rerouted{tap0, tap1}},
		{"one after the other", append(least, "--interfaces-reroute", "tap0", "--interfaces-reroute={name: tap1, exclusions: ignored}"), []modes.Rerouted{tap0, tap1}},
		{"a map that holds a list", append(least, "--interfaces-reroute", "{name: tap2, excludeCIDRs: [10.0.0.0/8, 'fd00::/8'], dns: enabled}"), []modes.Rerouted{
			{Name: "tap2", ExcludeCIDRs: []string{"10.0.0.0/8", "fd00::/8"}, DNS: "enabled"}}},
		{"a flag over a file", []string{"-f", pod, "--interfaces-reroute", "tap0"}, []modes.Rerouted{tap0}},
		{"none", []string{"-f", pod, "--interfaces-reroute", ""}, []modes.Rerouted{}},
	} {
		c, err := load(t, "", tt.args...)
		if err != nil || c.Interfaces.Reroute == nil || !reflect.DeepEqual(c.Interfaces.Reroute, tt.want) {
			t.Errorf("%s: %+v, %v", tt.why, c.Interfaces.Reroute, err)
		}
		var printed strings.Builder
		if err := printConfig(&printed, c.Config, nil); err != nil {
			t.Fatal(err)
		}
		again, err := load(t, printed.String(), "-f", "-")
		if err != nil || !reflect.DeepEqual(again.Interfaces.Reroute, tt.want) {
			t.Errorf("%s: printed as\n%s%v", tt.why, &printed, err)
		}
	}
}

func TestConfigurationOfStandardInput(t *testing.T) {
	c, err := load(t, "mode: sidecar\nproxy: {uids: [1337]}\n", "--config", "-", "--table", "mine")
	if err != nil || c.Table != "mine" || c.Mode != modes.ModeSidecar {
		t.Errorf("got %+v, %v", c.Config, err)
	}
	_, err = load(t, "mode: 1\n", "-f", "-")
	if got, want := fmt.Sprint(err), `standard input:1:7: mode: "1" is not a mode (want sidecar, ambient-pod, ambient-host, egress or none)`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestFlagProblems(t *testing.T) {
	pod := file(t, "pod.yaml", "mode: sidecar\nproxy: {uids: [1337]}\noutbound: {exludePorts: [1], excludePorts: [0]}\nprxy: 1\n")
	noYAML := file(t, "no.yaml", "mode: [\n")
	cidrs := file(t, "cidrs.txt", "10.0.0.0/8\n# more\n10.0.0.0/33\n1.1.1.1 2.2.2.2\n")
	gap := file(t, "gap.txt", "10.0.0.0/8\n1.1.1.1,,2.2.2.2\n")
	long := file(t, "long.txt", strings.Repeat("10.0.0.0/8\n", config.MaxSize/11+1))
	least := []string{"--mode", "sidecar", "--proxy-uids", "1337"}
	for _, tt := range []struct {
		why  string
		args []string
		want []string
	}{
		{"nothing was given", nil, []string{
			"there is no configuration (want --config FILE, --config - for standard input, or flags: at least --mode sidecar --proxy-uids 1337)"}},
		{"an environment is not a configuration", []string{"--environment", pod}, []string{
			"there is no configuration (want --config FILE, --config - for standard input, or flags: at least --mode sidecar --proxy-uids 1337)"}},
		{"flags alone may be too few", []string{"--mode", "sidecar"}, []string{
			"proxy: needs uids, gids or a mark: without one the proxy's own traffic would be captured in a loop"}},
		{"an absent key has no place", []string{"--proxy-uids", "1337"}, []string{"mode: is missing (want sidecar, ambient-pod, ambient-host, egress or none)"}},
		{"a map in a flag has places", append(least, "--interfaces-reroute", "a/b", "--interfaces-reroute", "{name: tap0, exclusions: some}"), []string{
			`--interfaces-reroute: "a/b" is not an interface name`,
			`--interfaces-reroute:1:26: interfaces.reroute.exclusions: "some" is not one of: honoured, ignored`}},
		{"a map in a flag has a name", append(least, "--interfaces-reroute", "[tap0, {exclusions: ignored}]"), []string{
			"--interfaces-reroute:1:9: interfaces.reroute: has an entry without name"}},
		{"a map in a flag has an end", append(least, "--interfaces-reroute", "{name: tap0"), []string{
			"--interfaces-reroute:1:1: is not YAML: could not find flow mapping end token '}'"}},
		{"a bad word has its flag", append(least, "--outbound-exclude-ports", "22,70000", "--inbound-via=iptables"), []string{
			`--inbound-via: "iptables" is not one of: redirect, tproxy, marks, none`,
			`--outbound-exclude-ports: "70000" is not a port (want a number of 1-65535, a range such as 8000-8100, or a service such as https)`,
		}},
		{"a bad word of a file has its line", append(least, "--outbound-exclude-cidrs", "@"+cidrs), []string{
			`--outbound-exclude-cidrs: ` + cidrs + `:3: "10.0.0.0/33" is not an address or prefix (want 10.0.0.0/8, 192.0.2.1 or fd00::/8)`,
			`--outbound-exclude-cidrs: ` + cidrs + `:4: "1.1.1.1 2.2.2.2" is not an address or prefix (want 10.0.0.0/8, 192.0.2.1 or fd00::/8)`,
		}},
		{"two commas", append(least, "--outbound-exclude-ports", "22,,23"), []string{
			`--outbound-exclude-ports: "22,,23" has an empty word (want words with commas between them)`}},
		{"two commas in a file", append(least, "--outbound-exclude-cidrs", "@"+gap), []string{
			`--outbound-exclude-cidrs: ` + gap + `:2: "1.1.1.1,,2.2.2.2" has an empty word (want words with commas between them)`}},
		{"a list's file that is not there", append(least, "--outbound-exclude-cidrs", "@/no/such"), []string{
			`--outbound-exclude-cidrs: open /no/such: no such file or directory`}},
		{"a list's file that is too long", append(least, "--outbound-exclude-cidrs", "@"+long), []string{
			`--outbound-exclude-cidrs: ` + long + ` is longer than 4 MiB`}},
		{"an empty word", append(least, "--table", ""), []string{`--table: is empty (without the flag its default holds)`}},
		{"two words where there is one", append(least, "--table", "a", "--table", "b"), []string{
			`invalid value "b" for flag -table: is a second value (the first is "a")`}},
		{"two files", []string{"--config", pod, "--config", noYAML}, []string{
			`invalid value "` + noYAML + `" for flag -config: is a second value (the first is "` + term.Shorten(pod) + `")`}},
		{"a file that is not there", []string{"--config", "/no/such"}, []string{"--config: open /no/such: no such file or directory"}},
		{"a directory", []string{"--config", "/"}, []string{"--config: read /: is a directory"}},
		{"problems of the file, of its words and of flags at once, in order", []string{"-f", pod, "--dns-port", "x", "--table", "?"}, []string{
			pod + `:3:12: outbound.exludePorts: unknown key (did you mean outbound.excludePorts?)`,
			pod + `:3:45: outbound.excludePorts: "0" is not a port (want a number of 1-65535, a range such as 8000-8100, or a service such as https)`,
			pod + `:4:1: prxy: unknown key (did you mean proxy?)`,
			`--table: "?" is not a table name (want a letter, then at most 30 letters, digits, '_' or '-')`,
			`--dns-port: "x" is not a port (want a number of 1-65535)`,
		}},
		{"a file that is not YAML hides what its keys would be, not what flags are", []string{"-f", noYAML, "--table", ""}, []string{
			noYAML + `:1:7: is not YAML: sequence end token ']' not found`,
			`--table: is empty (without the flag its default holds)`,
		}},
		{"a flag's word heals the file's", []string{"-f", file(t, "a.yaml", "mode: sidecar\nproxy: {uids: [1]}\ninbound: {port: x}\n"), "--inbound-port", "1"}, nil},
	} {
		_, err := load(t, "", tt.args...)
		if got := problemLines(err); !slices.Equal(got, tt.want) {
			t.Errorf("%s:\ngot  %q\nwant %q", tt.why, got, tt.want)
		}
	}
}

// TestEveryKeyByFlagAndFile sets each key both ways, to the same configuration.
func TestEveryKeyByFlagAndFile(t *testing.T) {
	words := map[string]string{
		"version": "1", "mode": "sidecar", "table": "mine", "ipv6": "enabled", "dropInvalid": "enabled",
		"proxy.uids": "1337,0", "proxy.gids": "1337", "proxy.mark": "0x539/0xfff",
		"inbound.via": "tproxy", "inbound.includePorts": "80,8000-8100", "outbound.via": "redirect",
		"outbound.includeCIDRs": "10.0.0.0/8,fd00::/8", "outbound.excludeCIDRs": "10.1.0.0/16",
		"inbound.excludeSources": "192.0.2.0/24,fd00::1",
		"outbound.includeGIDs":   "1,2", "outbound.excludeGIDs": "3", "outbound.excludeUIDs": "4",
		"dns.capture": "servers", "dns.servers": "10.96.0.10,fd00::10", "dns.protocols": "udp", "dns.to": "127.0.0.1:8600",
		"interfaces.exclude": "eth1,veth*", "interfaces.reroute": "vm+",
		"loopback.cidr": "127.0.0.0/8", "loopback.passthrough": "127.0.0.6,::6",
		"probes.addresses": "192.0.2.1,fd00::1", "probes.from": "local", "probes.uids": "0", "probes.cgroups": "kubelet.slice", "probes.mark": "0x1",
		"proxy.cgroups": "proxy.slice", "proxy.assignMark": "enabled", "conntrack": "none",
		"watch.names": "dns,sni", "watch.cgroupLevel": "3", "watch.resolvers": "10.96.0.10,fd00::10",
		"routing.mark": "0x1", "routing.loopMark": "0x2", "routing.mask": "0xffff", "routing.table": "200", "routing.priority": "100",
	}
	for _, k := range modes.Keys() {
		word := words[k.Path]
		switch {
		case word != "":
		case len(k.Choices) > 0:
			word = k.Choices[len(k.Choices)-1].Word
		default:
			word = "4143" // a port
		}
		value := "'" + word + "'"
		if k.List {
			value = "['" + strings.ReplaceAll(word, ",", "', '") + "']"
		}
		mode := modes.ModeSidecar
		if !k.UsedBy(mode) {
			mode = k.Modes[0]
		}
		text, flags := "", []string{"--" + k.Flag() + "=" + word}
		if section, name, nested := cutKey(k.Path); nested {
			text = fmt.Sprintf("%s: {%s: %s}\n", section, name, value)
			if outer, inner, deep := strings.Cut(section, "."); deep {
				text = fmt.Sprintf("%s: {%s: {%s: %s}}\n", outer, inner, name, value)
			}
		} else {
			text = fmt.Sprintf("%s: %s\n", name, value)
		}
		if k.Path != "mode" {
			text, flags = text+"mode: "+mode+"\n", append(flags, "--mode", mode)
		}
		if mode == modes.ModeSidecar && !strings.HasPrefix(k.Path, "proxy.") {
			text, flags = text+"proxy: {uids: [1337]}\n", append(flags, "--proxy-uids", "1337")
		}
		switch k.Path {
		case "proxy.ownCalls":
			text, flags = strings.Replace(text, "{", "{uids: [1337], ", 1), append(flags, "--proxy-uids=1337")
		case "proxy.cgroups":
			text, flags = strings.Replace(text, "{", "{mark: 0x53d, assignMark: enabled, ", 1), append(flags, "--proxy-mark=0x53d", "--proxy-assign-mark=enabled")
		case "proxy.assignMark":
			text, flags = strings.Replace(text, "{", "{mark: 0x53d, cgroups: [proxy.slice], ", 1), append(flags, "--proxy-mark=0x53d", "--proxy-cgroups=proxy.slice")
		case "conntrack", "udp.outbound.includePorts", "udp.inbound.includePorts":
			text, flags = strings.Replace(text, "{uids: [1337]}", "{uids: [1337], mark: 0x53d}", 1), append(flags, "--proxy-mark=0x53d")
		}
		if alone := slices.Contains([]string{"proxy.cgroups", "proxy.assignMark", "udp.outbound.includePorts", "udp.inbound.includePorts"}, k.Path); alone || k.Path == "conntrack" {
			text += "inbound: {via: tproxy}\noutbound: {via: tproxy}\n"
			flags = append(flags, "--inbound-via=tproxy", "--outbound-via=tproxy")
			if alone {
				text, flags = text+"conntrack: none\n", append(flags, "--conntrack=none")
			}
		}
		if k.Path == "dns.proxyQueries" {
			text, flags = strings.Replace(text, "{", "{exclusions: none, ", 1), append(flags, "--dns-exclusions=none")
		}
		if k.Path == "dns.servers" {
			text, flags = strings.Replace(text, "{", "{capture: servers, ", 1), append(flags, "--dns-capture=servers")
		}
		if section, word, _ := cutKey(k.Path); section == "probes" && (word == "uids" || word == "cgroups") {
			text, flags = strings.Replace(text, "{", "{from: "+word+", ", 1), append(flags, "--probes-from", word)
		}
		byFile, fileErr := load(t, text, "-f", "-")
		byFlags, flagErr := load(t, "", flags...)
		if fileErr != nil || flagErr != nil {
			t.Errorf("%s: %v, %v\n%s", k.Path, fileErr, flagErr, text)
			continue
		}
		if !reflect.DeepEqual(byFile.Config, byFlags.Config) {
			t.Errorf("%s: the file says\n%+v\nflags say\n%+v", k.Path, byFile.Config, byFlags.Config)
		}
		if _, set := k.Get(&byFlags.Config); !set {
			t.Errorf("%s was not set", k.Path)
		}
	}
}

func TestFlagsTellTheirDefaults(t *testing.T) {
	seen := map[string]bool{}
	for _, f := range configurationFlags() {
		for _, n := range f.Names() {
			if seen[n] {
				t.Errorf("--%s is there twice", n)
			}
			seen[n] = true
		}
		if g, ok := f.(*wordsFlag); !ok || g.GetUsage() == "" {
			t.Errorf("%v has no usage", f.Names())
		}
	}
	for _, k := range modes.Keys() {
		text := keyFlag(&k).String()
		if !seen[k.Flag()] || !strings.Contains(text, "--"+k.Flag()) {
			t.Errorf("%s has no flag", k.Path)
		}
		if words := k.Defaults(); words != "" && !strings.Contains(text, "(default: "+words+")") {
			t.Errorf("%q does not tell the default, %s", text, words)
		}
	}
}

func TestConfigured(t *testing.T) {
	for _, tt := range []struct {
		why  string
		args []string
		want bool
	}{
		{"nothing", nil, false},
		{"a table alone says which, not what", []string{"--table", "mine"}, false},
		{"an environment alone", []string{"--environment", "x"}, false},
		{"a file", []string{"--config", "x"}, true},
		{"a file by its short flag", []string{"-f", "x"}, true},
		{"a flag of a key", []string{"--table", "mine", "--drop-invalid"}, true},
		{"an empty list is a key's value", []string{"--interfaces-exclude="}, true},
	} {
		var got bool
		app := &cli.App{Name: "test", Flags: configurationFlags(), HideVersion: true, Action: func(cc *cli.Context) error {
			got = configured(cc, "table")
			return nil
		}}
		if err := app.Run(append([]string{"test"}, tt.args...)); err != nil || got != tt.want {
			t.Errorf("%s: %v, %v", tt.why, got, err)
		}
	}
}

func TestPermute(t *testing.T) {
	flags := append(configurationFlags(), &cli.BoolFlag{Name: "json"}, &cli.StringFlag{Name: "netns", Aliases: []string{"n"}})
	for _, tt := range []struct{ why, args, want string }{
		{"nothing stays nothing", "", ""},
		{"flags first stay", "--json x", "--json x"},
		{"a flag after an argument", "x --json", "--json x"},
		{"a flag keeps its value", "x --netns y z", "--netns y x z"},
		{"an alias keeps its value", "x -n y z", "-n y x z"},
		{"a value after = is its own", "x --netns=y z", "--netns=y x z"},
		{"a bool flag takes none", "x --json y", "--json x y"},
		{"nor does a key of enabled and disabled", "x --drop-invalid y", "--drop-invalid x y"},
		{"a value may look like a flag", "x --netns --json", "--netns --json x"},
		{"a value may be -", "x --config - y", "--config - x y"},
		{"- alone is an argument", "- --json", "--json -"},
		{"an unknown flag takes none, and is complained of", "x --what y", "--what x y"},
		{"after -- nothing is a flag", "x --json -- --netns y", "--json -- x --netns y"},
		{"-- may come first", "-- --json x", "-- --json x"},
		{"a flag without its value gets no argument for one", "x y --netns", "--netns"},
		{"flags keep their order, and arguments theirs", "a --netns 1 b --json c --netns 2", "--netns 1 --json --netns 2 a b c"},
	} {
		if got := strings.Join(permute(strings.Fields(tt.args), flags), " "); got != tt.want {
			t.Errorf("%s: %q became %q, not %q", tt.why, tt.args, got, tt.want)
		}
	}
	args := []string{"a", "--json"}
	permute(args, flags)
	if args[0] != "a" {
		t.Error("the arguments themselves were changed")
	}
}

// FuzzPermute: no argument is lost, but where a flag lacks its value; and what
// is permuted stays as it is when permuted again.
func FuzzPermute(f *testing.F) {
	f.Add("x --json -- -y", "--netns", "z")
	f.Add("-f - --drop-invalid a", "--", "--")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		flags := append(configurationFlags(), &cli.BoolFlag{Name: "json"})
		args := append(strings.Fields(a), b, c)
		got := permute(args, flags)
		if again := permute(got, flags); !slices.Equal(again, got) {
			t.Errorf("%q became %q and then %q", args, got, again)
		}
		x, y := slices.Sorted(slices.Values(args)), slices.Sorted(slices.Values(got))
		last := strings.TrimLeft(args[len(args)-1], "-")
		if !slices.Equal(x, y) && !takesValue(last, flags) {
			t.Errorf("%q became %q", args, got)
		}
	})
}

func TestLoadEnvironment(t *testing.T) {
	name := file(t, "env.yaml", "ipv6: yes\nloopbackIPv6: true\nresolvers: [10.96.0.10, fd00::10, '::ffff:192.0.2.1']\nusers: {envoy: 1337, root: 0}\ngroups:\n  mesh: 1338\n")
	env, err := loadEnvironment(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	if !env.IPv6 || !env.LoopbackIPv6 || fmt.Sprint(env.Resolvers) != "[10.96.0.10 fd00::10 192.0.2.1]" ||
		fmt.Sprint(env.Users) != "map[envoy:1337 root:0]" || fmt.Sprint(env.Groups) != "map[mesh:1338]" {
		t.Errorf("got %+v", env)
	}
	if _, err := loadEnvironment(t.Context(), "/no/such"); !errors.Is(err, os.ErrNotExist) || !strings.HasPrefix(err.Error(), "--environment: ") {
		t.Errorf("got %v", err)
	}
}

func TestArrange(t *testing.T) {
	app := newApp(streams{}, nil)
	for _, tt := range []struct{ why, args, want string }{
		{"nothing", "weir", "weir"},
		{"no command", "weir frobnicate -x", "weir frobnicate -x"},
		{"flags come before arguments", "weir remove x --json", "weir remove --json x"},
		{"a command by itself is the first of those below it", "weir ambient --v6", "weir ambient pod apply --v6"},
		{"on each level", "weir ambient host --v6", "weir ambient host apply --v6"},
		{"a level may be left out", "weir ambient verify --v6", "weir ambient pod verify --v6"},
		{"nothing is left out", "weir ambient host pods add 10.0.0.1 --pod a", "weir ambient host pods add --pod a 10.0.0.1"},
		{"what takes arguments is never meant by itself", "weir ambient host pods 10.0.0.1", "weir ambient host pods 10.0.0.1"},
		{"help is on what was named", "weir ambient host --help", "weir ambient host --help"},
		{"what is not a command is told", "weir ambient hots --v6", "weir ambient hots --v6"},
	} {
		if got := strings.Join(arrange(app, strings.Fields(tt.args)), " "); got != tt.want {
			t.Errorf("%s: %q is arranged as %q, not %q", tt.why, tt.args, got, tt.want)
		}
	}
}
