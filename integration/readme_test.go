//go:build linux

package integration

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/weir-mesh/weir/modes"
)

var update = flag.Bool("update", false, "write the README's generated parts anew")

const readme = "../README.md"

// TestREADME makes the parts of the README between <!-- NAME --> and <!-- end -->
// anew and compares them with what stands there; -update writes them.
func TestREADME(t *testing.T) {
	c := newCLI(t)
	c.dir = sharedDir(t)
	c.env = []string{"PATH=" + filepath.Dir(c.program) + ":" + os.Getenv("PATH")}
	text := readFile(t, readme)
	for _, part := range []struct {
		name string
		make func() string
	}{
		{"example", c.example},
		{"badinput", c.badInput},
		{"ambient", c.ambient},
		{"explain", c.explained},
		{"everything", c.surveyed},
		{"live", c.live},
		{"keys", keysTable},
	} {
		t.Run(part.name, func(t *testing.T) {
			begin := fmt.Sprintf("<!-- %s -->\n", part.name)
			before, rest, ok := strings.Cut(text, begin)
			stands, after, ended := strings.Cut(rest, "<!-- end -->")
			if !ok || !ended {
				t.Fatalf("the README has no part between %q and <!-- end -->", begin)
			}
			want := "\n" + part.make() + "\n"
			switch {
			case normalised(stands) == normalised(want):
			case *update:
				text = before + begin + want + "<!-- end -->" + after
			default:
				t.Errorf("go test ./integration -run README -update would change\n%s", changed(normalised(stands), normalised(want)))
			}
		})
	}
	if *update {
		if err := os.WriteFile(readme, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

var varying = regexp.MustCompile(`192\.0\.2\.1:\d{5}|\d+\.\d ms|handle \d+`)

// normalised is text without what differs from run to run: ports, times and
// handles.
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

// shell runs a line as a person at a console does.
func (c *cli) shell(line string) string {
	c.Helper()
	cmd, out, _ := c.command("")
	cmd.Path, cmd.Args = "/bin/sh", []string{"sh", "-c", line}
	cmd.Stderr = cmd.Stdout
	c.do(cmd.Run)
	return out.String()
}

func (c *cli) putFile(name, text string) {
	c.Helper()
	if err := os.WriteFile(filepath.Join(c.dir, name), []byte(text), 0o644); err != nil {
		c.Fatal(err)
	}
}

// readmePod is the README's configuration.
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
