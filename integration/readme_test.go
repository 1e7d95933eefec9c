// SPDX-License-Identifier: Apache-2.0

//go:build linux

package integration

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/weir-mesh/weir/modes"
)

var update = flag.Bool("update", false, "write the manual's generated parts anew")

// TestREADME makes the parts of the README and of the manual's pages between <!-- NAME --> and <!-- end -->
// anew and compares them with what stands there; -update writes them.
func TestREADME(t *testing.T) {
	c := newCLI(t)
	c.dir = sharedDir(t)
	c.env = []string{"PATH=" + filepath.Dir(c.program) + ":" + os.Getenv("PATH")}
	for _, part := range c.parts() {
		t.Run(part.name, func(t *testing.T) {
			page := filepath.Join("..", part.page)
			before, stands, after := marked(t, page, part.name)
			want := "\n" + part.make() + "\n"
			switch {
			case normalised(stands) == normalised(want):
			case *update:
				if err := os.WriteFile(page, []byte(before+want+after), 0o644); err != nil {
					t.Fatal(err)
				}
			default:
				t.Errorf("go test ./integration -run README -update would change %s\n%s", part.page, changed(normalised(stands), normalised(want)))
			}
		})
	}
}

// A part of a page is made anew by a test.
type part struct {
	page, name string
	make       func() string
}

func (c *cli) parts() []part {
	return []part{
		{"docs/operate.md", "example", c.example},
		{"docs/operate.md", "badinput", c.badInput},
		{"docs/ambient.md", "ambient", c.ambient},
		{"docs/explain.md", "explain", c.explained},
		{"docs/explain.md", "lines", c.explainedLines},
		{"docs/explain.md", "everything", c.surveyed},
		{"docs/operate.md", "live", c.live},
		{"docs/operate.md", "json", c.shownJSON},
		{"docs/configuration.md", "keys", keysTable},
		{"docs/egress.md", "watch", c.watched},
		{"docs/egress.md", "metrics", c.scraped},
	}
}

// marked cuts a page at the part of a name: up to its mark, the part, and from its end on.
func marked(t *testing.T, page, name string) (before, part, after string) {
	t.Helper()
	begin, end := fmt.Sprintf("<!-- %s -->\n", name), "<!-- end -->"
	before, rest, ok := strings.Cut(readFile(t, page), begin)
	part, after, ended := strings.Cut(rest, end)
	if !ok || !ended {
		t.Fatalf("%s has no part between %q and %s", page, begin, end)
	}
	return before + begin, part, end + after
}

// TestQuickStart runs the README's quick start as it stands, but for the build, in a namespace of its own: as root, and as
// another user after unshare -Urn.
func TestQuickStart(t *testing.T) {
	t.Run("root", func(t *testing.T) { quickStart(t, "verify", func(*exec.Cmd) {}) })
	t.Run("another user", func(t *testing.T) {
		quickStart(t, "list", func(cmd *exec.Cmd) {
			nobody := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 65534, Size: 1}}
			cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNET, UidMappings: nobody, GidMappings: nobody,
				Credential: &syscall.Credential{NoSetGroups: true}}
		})
	})
}

// quickStart runs it with one more command, which finds the namespace clean, before the last.
func quickStart(t *testing.T, more string, by func(*exec.Cmd)) {
	c := newCLI(t)
	c.env = []string{"PATH=" + filepath.Dir(c.program) + ":" + os.Getenv("PATH")}
	_, part, _ := marked(t, "../README.md", "quickstart")
	_, script, ok := strings.Cut(part, "# a network namespace of its own\n")
	if !ok {
		t.Fatalf("the quick start makes no namespace:\n%s", part)
	}
	script, _, _ = strings.Cut(script, "```")
	out, _ := c.sh("exec </dev/null; trap 'kill $!' EXIT; "+strings.NewReplacer("15001 &", "15001 >/dev/null 2>&1 &", "weir remove", "weir "+more+"\nweir remove").Replace(script), by)
	for _, want := range []string{"created: inet weir", "HTTP/1.0 200 OK", "captured: lands on port 15001", "clean", "removed: inet weir"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in:\n%s", want, out)
		}
	}
}

var varying = regexp.MustCompile(`192\.0\.2\.1:\d{5}|\d+\.\d ms|handle \d+|\d+(\.\d)? [kMG]?B\b *|SENT +RECEIVED +|bytes_total.* \d+`)

// normalised is text without what differs from run to run: ports, times, handles and bytes with their headers.
func normalised(text string) string { return varying.ReplaceAllString(text, "*") }

// session is a console's: the commands and what they print.
func (c *cli) session(commands ...string) string {
	c.Helper()
	var out strings.Builder
	out.WriteString("```console\n")
	for _, command := range commands {
		// The handles of rules are known once there are some.
		command = handleOf.ReplaceAllStringFunc(command, func(m string) string { return c.handle(handleOf.FindStringSubmatch(m)[1]) })
		fmt.Fprintf(&out, "$ %s\n%s", command, c.shell(command))
	}
	out.WriteString("```\n")
	return out.String()
}

var handleOf = regexp.MustCompile(`<(.*)>`)

// shell runs a line as a person at a console does, who goes on where it fails.
func (c *cli) shell(line string) string {
	c.Helper()
	out, _ := c.sh(line, func(*exec.Cmd) {})
	return out
}

// sh runs a line as a change to its process asks, and returns what it printed and how it ended.
func (c *cli) sh(line string, change func(*exec.Cmd)) (string, error) {
	c.Helper()
	cmd, out, _ := c.command("")
	cmd.Path, cmd.Args = "/bin/sh", []string{"sh", "-c", line}
	cmd.Stderr = cmd.Stdout
	change(cmd)
	err := c.try(cmd.Run)
	return out.String(), err
}

func (c *cli) putFile(name, text string) {
	c.Helper()
	if err := os.WriteFile(filepath.Join(c.dir, name), []byte(text), 0o644); err != nil {
		c.Fatal(err)
	}
}

// readmePod is the manual's configuration.
const readmePod = `version: 1
mode: sidecar
ipv6: disabled
proxy: {uids: [1337]}                            # whose traffic is never captured
inbound: {excludePorts: [15020, 15021, 15090]}
outbound: {excludeCIDRs: [10.0.0.0/8]}
`

func (c *cli) example() string {
	c.putFile("pod.yaml", readmePod)
	return c.session(
		"cat pod.yaml",
		"weir plan --config pod.yaml",
		"weir apply --config pod.yaml",
		"weir apply --config pod.yaml",
		"nft delete rule inet weir output handle <an excluded destination is left alone>",
		`weir verify --config pod.yaml || echo "exit code $?"`,
		"weir apply --config pod.yaml",
		"weir verify",
		"weir show | head -n 9",
		"weir remove",
	)
}

func (c *cli) ambient() string {
	return c.session(
		"weir ambient pod apply --v6 --dns --outbound-exclude-cidrs 10.0.0.0/8",
		"weir ambient pod apply --v6 --dns --outbound-exclude-cidrs 10.0.0.0/8,192.0.2.0/24",
		"weir verify",
		"weir ambient pod remove",
		"weir ambient host apply --v6",
		"weir ambient host pods add --pod 1f0c6e5a-9d5b-4a53-8f0e-3c2a6c0b7d11 10.244.1.7 fd00:10:244:1::7",
		"weir ambient host pods list",
		"weir ambient host plan --v6 | grep snat",
		"weir ambient host remove",
	)
}

func (c *cli) badInput() string {
	c.putFile("bad.yaml", `version: 1
mode: sidecar
proxy: {uid: [1337]}
outbound:
  excludePorts: [22, 70000]
  excludeCIDRs: [10.0.0.0/33]
inbound: {via: tproxi}
dns: {capture: on}
`)
	return c.session("cat bad.yaml", `weir apply --config bad.yaml --outbound-port 0 || echo "exit code $?"`)
}

func (c *cli) explained() string {
	return c.session(
		"weir explain --config pod.yaml --uid 1000 tcp 192.0.2.1:443",
		"weir explain --config pod.yaml --in eth0 --from 203.0.113.7 tcp 10.244.1.5:8080",
		"weir explain --config pod.yaml --uid 1337 tcp 192.0.2.1:443",
	)
}

func (c *cli) explainedLines() string {
	c.putFile("packets.jsonl", `{"packet": "tcp 10.0.0.1:443", "uid": 1000}
{"packet": "tcp 10.244.1.5:8080", "in": "eth0", "from": "203.0.113.7"}
`)
	return c.session("cat packets.jsonl", `weir explain --config pod.yaml --json - < packets.jsonl | jq -r '"\(.packet) \(.fate.says)"'`)
}

func (c *cli) surveyed() string {
	c.putFile("new.yaml", strings.Replace(readmePod, "15090]", "15090, 9090]", 1))
	return c.session("weir explain --config pod.yaml --all", `weir compare pod.yaml new.yaml || echo "exit code $?"`)
}

// keysTable is the reference of the configuration.
func keysTable() string {
	var out strings.Builder
	out.WriteString("| key | flag | default | meaning |\n| --- | --- | --- | --- |\n")
	for _, k := range modes.Keys() {
		value := ""
		switch {
		case k.List && k.Default != "all":
			value = "`[" + strings.ReplaceAll(k.Default, ",", ", ") + "]`"
		case k.Defaults() != "":
			value = "`" + k.Defaults() + "`"
		}
		fmt.Fprintf(&out, "| `%s` | `--%s` | %s | %s |\n", k.Path, k.Flag(), value, strings.ReplaceAll(k.Doc, "|", `\|`))
	}
	return out.String()
}

// live looks into a namespace with traffic.
func (c *cli) live() string {
	c.outward()
	return c.session(
		"weir apply --config pod.yaml",
		"weir trace --to 198.51.100.7:80 --count 1 tcp & sleep 1; curl -s -m 3 198.51.100.7; wait",
		`weir show --json | jq -r '.chains[].rules[] | select(.packets > 0) | "\(.packets) packets: \(.reason)"'`,
		"iptables-nft -t nat -N ISTIO_OUTPUT",
		"weir doctor 2>&1 | grep -A 1 ^failed",
	)
}

// shownJSON is what programs read of the namespace that live left.
func (c *cli) shownJSON() string {
	return c.session(
		"nft 'table ip theirs { chain early { type filter hook output priority raw; }; }'",
		`weir show --json | jq -r '.foreign[]'                                  # chains of others on the same hooks`,
		`weir show --json | jq '[.chains[].rules[].packets] | add'              # packets that rules met`,
		`weir show --json | jq -r '.sets[] | "\(.name) \(.elements | length)"'  # the sizes of sets`,
		`weir show --json --config pod.yaml | jq '.configuration.same'          # is it what was asked for`,
	)
}
