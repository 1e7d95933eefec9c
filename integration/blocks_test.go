// SPDX-License-Identifier: Apache-2.0

//go:build linux

package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/weir-mesh/weir/internal/egress/settings"
)

// A block is what stands between two fences of a page.
type block struct {
	page, part     string // part is the mark that it stands below, "" where there is none
	language, text string
}

func (b block) String() string {
	first, _, _ := strings.Cut(b.text, "\n")
	return b.page + ": " + first
}

// begins reports whether this is the block of a page that begins with some words.
func (b block) begins(page, words string) bool {
	return b.page == page && strings.HasPrefix(strings.Join(strings.Fields(b.text), " "), words)
}

var (
	marks  = regexp.MustCompile(`^<!-- (\S+) -->$`)
	fences = regexp.MustCompile("^```(\\S*)$")
)

// blocksOf are the blocks of a page, in its order.
func blocksOf(t *testing.T, page string) (all []block) {
	t.Helper()
	var part string
	var open *block
	for line := range strings.Lines(readFile(t, filepath.Join("..", page))) {
		bare := strings.TrimSuffix(line, "\n")
		fence := fences.FindStringSubmatch(bare)
		switch mark := marks.FindStringSubmatch(bare); {
		case open != nil && fence != nil:
			all, open = append(all, *open), nil
		case open != nil:
			open.text += line
		case fence != nil:
			open = &block{page: page, part: part, language: fence[1]}
		case mark != nil:
			part = strings.TrimPrefix(mark[1], "end")
		}
	}
	if open != nil {
		t.Fatalf("%s: a block does not end", page)
	}
	return all
}

// TestBlocks: every block of the README and of the manual is run. What stands below a mark is made anew by
// TestREADME, or run by TestQuickStart; YAML is planned; the others have a row here. A row without a block fails too.
func TestBlocks(t *testing.T) {
	pages, err := filepath.Glob("../docs/*.md")
	if err != nil || len(pages) == 0 {
		t.Fatalf("no pages: %v", err)
	}
	pages = append(pages, "../README.md", "../CONTRIBUTING.md", "../SECURITY.md", "../CHANGELOG.md", "../deploy/README.md")
	made := map[string]bool{"quickstart": true}
	for _, p := range (&cli{}).parts() {
		made[p.name] = true
	}
	c := newCLI(t)
	c.env = []string{"PATH=" + filepath.Dir(c.program) + ":" + os.Getenv("PATH"), "HOME=/"}
	rows := blockRows()
	for _, page := range pages {
		for _, b := range blocksOf(t, strings.TrimPrefix(page, "../")) {
			if b.part != "" {
				if !made[b.part] {
					t.Errorf("%s: stands below <!-- %s -->, which no test makes", b, b.part)
				}
				continue
			}
			at := slices.IndexFunc(rows, func(r blockRow) bool { return b.begins(r.page, r.begins) })
			switch {
			case at >= 0:
				row := rows[at]
				rows = slices.Delete(rows, at, at+1)
				t.Run(b.String(), func(t *testing.T) { t.Parallel(); row.check(t, c, b.text) })
			case b.language == "yaml":
				t.Run(b.String(), func(t *testing.T) { t.Parallel(); plans(t, c, b.text) })
			default:
				t.Errorf("%s: no test runs this block", b)
			}
		}
	}
	for _, r := range rows {
		t.Errorf("%s has no block that begins with %q", r.page, r.begins)
	}
}

// A blockRow says how a block is run that is neither made anew nor YAML.
type blockRow struct {
	page, begins string
	check        func(t *testing.T, c *cli, text string)
}

func blockRows() []blockRow {
	return []blockRow{
		{"README.md", "make demo", targets},
		{"CONTRIBUTING.md", "make quick", targets},
		{"README.md", "weir plan", commands(
			"weir plan --config pod.yaml",
			"weir apply --config pod.yaml",
			"weir verify --config pod.yaml",
			"weir verify",
			"weir show",
			"weir explain --config pod.yaml tcp 10.0.0.1:443",
			"weir explain --config pod.yaml --all",
			"weir compare pod.yaml new.yaml ; [ $? = 3 ]",
			"weir graph --config pod.yaml",
			"weir list",
			"weir trace --to 198.51.100.0/24:80 --for 100ms tcp",
			"weir doctor ; [ $? = 1 ]", // no proxy listens
			"weir remove",
			"weir istio-init --dry-run -p 15001 -u 1337 -m REDIRECT -i '*' -b '*'",
			"weir linkerd-init --simulate -p 4143 -o 4140 -u 2102",
			"weir kuma-init --dry-run --kuma-dp-user 5678",
			"weir consul-redirect -proxy-uid 5995 -proxy-inbound-port 20000 -dry-run",
			"weir ambient pod plan",
			"weir cni install --bin-dir bin --conf-dir net.d",
			"weir completion bash", "weir completion zsh", "weir completion fish",
			"weir version",
		)},
		{"docs/ambient.md", "weir ambient pod", commands(
			"weir ambient pod apply --v6 --dns --ingress --virt eth0 --netns /proc/self/ns/net",
			"weir ambient pod plan",
			"weir ambient pod verify --v6 --dns --ingress --virt eth0",
			"weir ambient pod remove",
			"weir ambient host apply --v6 --probe-addresses 169.254.7.127,fd16::1 --probe-uids 0",
			"weir ambient host verify --v6 --probe-cgroups no.slice ; [ $? = 2 ]", // there is no such cgroup
			"weir ambient host plan",
			"weir ambient host pods add --pod 1f0c6e5a-9d5b-4a53-8f0e-3c2a6c0b7d11 10.244.1.7",
			"weir ambient host pods delete --pod 1f0c6e5a-9d5b-4a53-8f0e-3c2a6c0b7d11 10.244.1.7",
			"weir ambient host pods list | weir ambient host pods sync -f -",
			"weir ambient host remove",
		)},
		{"docs/cni.md", "weir cni install", commands(
			"weir cni install --bin-dir bin --conf-dir net.d",
			"weir cni uninstall --bin-dir bin --conf-dir net.d --wait 0s",
		)},
		{"docs/cni.md", "Failed to create pod sandbox", refusedPods},
		{"docs/design.md", "flags, YAML", drawing},
		{"docs/node.md", "weir-node run", commands(
			`weir-node run --cni-bin-dir bin --cni-conf-dir net.d --netns-dir run --cni-cache results --state-dir lib --socket s &
			until curl -sf localhost:8000/readyz; do kill -0 $! || exit 1; sleep 0.05; done; ls bin/weir-cni && kill $! && wait $!`,
			"weir-node release --all --netns-dir run --cni-cache results --state-dir lib",
			"weir-node release --resume --netns-dir run --cni-cache results --state-dir lib",
			"weir-node uninstall --cni-bin-dir bin --cni-conf-dir net.d --wait 0s",
		)},
		{"deploy/README.md", "make image", installs},
		{"docs/operate.md", "weir graph", commands("weir graph --config pod.yaml --format html --uid 1000 tcp 93.184.216.34:443 > pod.html && grep -q '<html' pod.html")},
	}
}

// targets: make knows each line's target and what that needs.
func targets(t *testing.T, _ *cli, text string) {
	for line := range strings.Lines(text) {
		command, _, _ := strings.Cut(line, "#")
		args := strings.Fields(command)
		if len(args) != 2 || args[0] != "make" {
			t.Fatalf("%q is not a target of make", line)
		}
		if out, err := exec.Command("make", "-n", "-C", "..", args[1]).CombinedOutput(); err != nil {
			t.Errorf("make %s: %v\n%s", args[1], err, out)
		}
	}
}

// installs: a cluster is not here, so that make cluster-test's TestDaemonSet runs the chart; what it is given here is what
// the chart takes, and the plugin captures the pod.
func installs(t *testing.T, c *cli, text string) {
	if !strings.Contains(readFile(t, "cluster/daemonset_test.go"), "\nfunc TestDaemonSet(") {
		t.Error("no test installs the chart any more")
	}
	values := readFile(t, "../deploy/chart/values.yaml")
	for _, set := range regexp.MustCompile(`--set (\w+)\.(\w+)=`).FindAllStringSubmatch(text, -1) {
		if !regexp.MustCompile(`(?m)^` + set[1] + `:\n(  .*\n)*  ` + set[2] + `: `).MatchString(values) {
			t.Errorf("the chart has no value %s.%s", set[1], set[2])
		}
	}
	annotation := regexp.MustCompile(`--annotations '([^=]*)=(.*?)'`).FindStringSubmatch(text)
	if annotation == nil {
		t.Fatal("the pod has no annotation")
	}
	pod := c.elsewhere(t)
	c.plugin("ADD", pluginCall{netns: pod.path(), annotations: map[string]string{annotation[1]: annotation[2]}}).succeeded(t)
	if tables := pod.tables(); !slices.Equal(tables, []string{"inet weir"}) {
		t.Errorf("the pod has tables %q", tables)
	}
}

// path is where the namespace can be opened.
func (n *namespace) path() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), n.file.Fd()) }

// drawing: no line of it is for a console.
func drawing(t *testing.T, _ *cli, text string) {
	if m := regexp.MustCompile(`(?m)^\s*(\$|weir|make|kubectl)\b.*`).FindString(text); m != "" {
		t.Errorf("%q is a command, which no test runs", m)
	}
}

// A fixed word is one that a person types as it stands: a command, a flag.
var fixed = regexp.MustCompile(`^-{0,2}[a-z][a-z-]*$`)

// commands runs lines in a namespace and a folder of a node of their own. What the block's lines ask for
// must be in those that are run: each command and each flag.
func commands(runs ...string) func(*testing.T, *cli, string) {
	return func(t *testing.T, c *cli, text string) {
		for line := range strings.Lines(text) {
			if strings.HasPrefix(line, " ") {
				continue // what the line before means
			}
			line = regexp.MustCompile(`\s{2,}[A-Za-z].*`).ReplaceAllString(strings.TrimSpace(line), "")
			words := strings.FieldsFunc(line, func(r rune) bool { return strings.ContainsRune(" |[]", r) })
			var same string
			for _, run := range runs {
				if strings.HasPrefix(run, strings.Join(words[:2], " ")) {
					same += " " + run
				}
			}
			for _, w := range words {
				if fixed.MatchString(w) && !slices.Contains(strings.Fields(same), w) {
					t.Errorf("%q: no command that is run has %s", line, w)
				}
			}
		}
		of := c.elsewhere(t).with(func(o *cli) { o.dir = nodeFolder(t, c.program) })
		of.env = append([]string{"PATH=" + of.dir + ":" + os.Getenv("PATH")}, c.env[1:]...)
		of.outward()
		for _, run := range runs {
			if strings.HasPrefix(run, "weir-node run") {
				installAs(t, filepath.Join(of.dir, "weir-node"), weirNode(t))
			}
			if out, err := of.sh(run); err != nil {
				t.Errorf("%s: %v\n%s", run, err, out)
			}
		}
	}
}

// weirNode is the agent's program.
func weirNode(t *testing.T) []byte {
	t.Helper()
	program, err := build("./cmd/weir-node", "")
	if err != nil {
		t.Fatal(err)
	}
	return program
}

// nodeFolder is a folder with the programs, two configurations, and the folders of a node that has a network list.
func nodeFolder(t *testing.T, program string) string {
	t.Helper()
	dir := sharedDir(t)
	for _, name := range []string{"weir", "weir-cni"} {
		if err := os.Link(program, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"bin", "net.d", "run", "results", "lib"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{
		"pod.yaml": readmePod, "new.yaml": strings.Replace(readmePod, "15090]", "15090, 9090]", 1),
		"net.d/10-lab.conflist": labList("1.0.0", "bridge", ""),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// plans: the document is a whole configuration, of the command it is for, or what --environment takes; the
// names in configurations are those of the manual's environment.
func plans(t *testing.T, c *cli, text string) {
	dir := sharedDir(t)
	put := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	_, rest, _ := strings.Cut(readFile(t, "../docs/configuration.md"), "```yaml\n")
	environment, _, _ := strings.Cut(rest, "```")
	args := []string{"plan", "--environment", put("environment.yaml", environment)}
	switch {
	case text == environment:
		c.ok(append(args, "--mode", "sidecar", "--proxy-uids", "istio-proxy", "--outbound-exclude-gids", "backup")...)
	case strings.Contains(text, "\nserve:"):
		if _, err := settings.Parse("egress.yaml", []byte(text)); err != nil {
			t.Error(err)
		}
	default:
		c.ok(append(args, "--config", put("pod.yaml", text))...)
	}
}

// refusedPods: the messages are those of the plugin, after what the kubelet and the runtime put before them.
func refusedPods(t *testing.T, c *cli, text string) {
	netns := c.elsewhere(t).path()
	call := pluginCall{netns: netns, annotations: map[string]string{"sidecar.istio.io/status": "{}", "traffic.sidecar.istio.io/excludeInboundPorts": "9090,http/2"}}
	ambient := pluginCall{netns: netns, annotations: map[string]string{}, entry: map[string]any{
		"agentSocket": "/run/weir/agent.sock", "enrolled": write(t, "enrolled.json", `{"version":1,"namespaces":["shop"]}`)}}
	var want []string
	for _, call := range []pluginCall{call, ambient} {
		failed := c.plugin("ADD", call).failed(t)
		want = append(want, `Failed to create pod sandbox: plugin type="weir-cni" failed (add): `+failed.Msg+"; "+failed.Details)
	}
	if got := strings.Join(strings.Fields(text), " "); got != strings.Join(want, " ") {
		t.Errorf("the page has\n%s\nand the plugin says\n%s", got, strings.Join(want, "\n"))
	}
}
