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

	"github.com/goccy/go-yaml"

	"github.com/weir-mesh/weir/internal/egress/settings"
)

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

// installs: a cluster is not here, where make cluster-test's TestInstall runs the block; what it gives the pod is given to
// the plugin here, which captures it.
func installs(t *testing.T, c *cli, text string) {
	runOnCluster(t, c, text)
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

// runOnCluster: make cluster-test's TestInstall runs the block. What it sets are values of the chart.
func runOnCluster(t *testing.T, _ *cli, text string) {
	if !strings.Contains(readFile(t, "cluster/install_test.go"), "\nfunc TestInstall(") {
		t.Error("no test installs the chart any more")
	}
	values := readFile(t, "../deploy/chart/values.yaml")
	for _, set := range regexp.MustCompile(`--set (\w+)(?:\.(\w+))?=`).FindAllStringSubmatch(text, -1) {
		key := `(?m)^` + set[1] + `: `
		if set[2] != "" {
			key = `(?m)^` + set[1] + `:\n(  .*\n)*  ` + set[2] + `: `
		}
		if !regexp.MustCompile(key).MatchString(values) {
			t.Errorf("the chart has no value that %q sets", set[0])
		}
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
			if out, err := of.sh(run, func(*exec.Cmd) {}); err != nil {
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

// podToMark: its configuration is one, and where no agent could mark the proxy's sockets the plugin refuses the pod; where one
// can, TestContainerdProxyContainer has it do so.
func podToMark(t *testing.T, c *cli, text string) {
	var pod struct {
		Metadata struct {
			Annotations map[string]string `yaml:"annotations"`
		} `yaml:"metadata"`
	}
	if err := yaml.Unmarshal([]byte(text), &pod); err != nil {
		t.Fatal(err)
	}
	plans(t, c, pod.Metadata.Annotations["weir.dev/config"])
	failed := c.plugin("ADD", pluginCall{netns: c.elsewhere(t).path(), annotations: pod.Metadata.Annotations}).failed(t)
	if said := failed.Msg + failed.Details; !strings.Contains(said, "weir.dev/proxy-container") {
		t.Errorf("without an agent the pod is refused by %q", said)
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
