package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/weir-mesh/weir/"

// goCommand runs the go command from the module's root.
func goCommand(t *testing.T, env []string, args ...string) string {
	t.Helper()
	if testing.Short() {
		t.Skip("asks the go command")
	}
	cmd := exec.Command("go", args...)
	cmd.Dir = filepath.Join("..", "..")
	cmd.Env = append(os.Environ(), env...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return string(out)
}

func TestArrowsPointOneWay(t *testing.T) {
	for _, tt := range []struct {
		why, pkg string
		others   bool // packages of other modules may be among the dependencies
		own      []string
	}{
		{"escape writes text, whoever wrote it", "internal/escape", false, nil},
		{"term words messages, whatever they are about", "internal/term", false, nil},
		{"stderr writes messages, whatever they say", "internal/stderr", true, []string{"internal/escape"}},
		{"version is a fact of the build", "internal/version", false, nil},
		{"rules is pure data and knows nobody", "rules", false, []string{"internal/escape"}},
		{"continuity writes what keeps connections alive, and knows rules alone", "internal/continuity", false, []string{"internal/escape", "rules"}},
		{"modes is pure and knows rules alone", "modes", false, []string{"internal/continuity", "internal/escape", "internal/parse", "internal/problems", "internal/term", "rules"}},
		{"parse reads single words, and knows values of rules alone", "internal/parse", false, []string{"internal/escape", "rules"}},
		{"problems joins errors, whatever they are about", "internal/problems", false, nil},
		{"config is words and places, and knows modes and a YAML reader", "config", true, []string{"internal/parse", "internal/continuity", "internal/escape", "internal/problems", "internal/term", "rules", "modes"}},
		{"sim is what a kernel does with a packet, and knows rules alone", "sim", false, []string{"internal/escape", "rules"}},
		{"packet is the grammar of packets", "sim/packet", false, []string{"internal/escape", "rules", "sim"}},
		{"graph draws rules and journeys, whoever made them", "internal/graph", false, []string{"internal/escape", "rules", "sim"}},
		{"survey cuts the space of packets", "sim/survey", false, []string{"internal/escape", "rules", "sim"}},
		{"nft carries rules to the kernel, whatever mode made them", "nft", true, []string{"internal/continuity", "internal/escape", "internal/nl", "internal/rtnl", "internal/sockdiag", "rules", "sim"}},
		{"nl is netlink, whatever it carries", "internal/nl", true, nil},
		{"mountinfo reads a list of mounts, whatever it is read for", "internal/mountinfo", false, nil},
		{"rtnl reads what rtnetlink lists, whatever it is read for", "internal/rtnl", true, []string{"internal/nl"}},
		{"sockdiag lists sockets, whatever they are listed for", "internal/sockdiag", true, []string{"internal/nl"}},
		{"netns opens namespaces and their netlink, whoever asks", "netns", true, []string{"internal/continuity", "internal/escape", "rules", "sim", "nft", "internal/nl", "internal/mountinfo", "internal/rtnl", "internal/sockdiag"}},
		{"internal/pods knows nodes, and no rules of its own", "internal/pods", true, []string{"internal/continuity", "internal/escape", "rules", "sim", "nft", "netns", "internal/nl", "internal/mountinfo", "internal/rtnl", "internal/sockdiag"}},
		{"trace follows packets across rules, and prints none", "internal/trace", true, []string{"internal/continuity", "internal/escape", "rules", "sim", "nft", "netns", "internal/nl", "internal/mountinfo", "internal/rtnl", "internal/sockdiag", "sim/packet"}},
		{"capture is the engine: it knows namespaces, rules and modes, and no command", "capture", true,
			[]string{"internal/parse", "internal/problems", "internal/continuity", "internal/escape", "internal/nl", "internal/pods", "internal/mountinfo", "internal/rtnl", "internal/sockdiag", "internal/term", "internal/version", "modes", "netns", "nft", "rules", "sim"}},
		{"capturetest stands for a kernel, and asks the engine's own policy", "capture/capturetest", true,
			[]string{"internal/parse", "internal/problems", "internal/continuity", "capture", "internal/escape", "internal/nl", "internal/pods", "internal/mountinfo", "internal/rtnl", "internal/sockdiag", "internal/term", "internal/version", "modes", "netns", "nft", "rules", "sim"}},
		{"istio is what istio-init does beyond the engine, and prints nothing", "internal/istio", true,
			[]string{"capture", "internal/continuity", "internal/escape", "internal/mountinfo", "internal/nl", "internal/parse", "internal/pods", "internal/problems", "internal/rtnl", "internal/sockdiag", "internal/term", "internal/version",
				"modes", "netns", "nft", "proxy", "rules", "sim"}},
		{"scratch makes networks and knows nothing of interception", "internal/scratch", true, nil},
		{"lab judges fates and knows nothing of what it judges", "internal/lab", true, []string{"internal/scratch"}},
		{"explain answers about packets, from a configuration or a namespace", "explain", true,
			[]string{"internal/parse", "internal/continuity", "internal/escape", "internal/nl", "internal/problems", "internal/mountinfo", "internal/rtnl", "internal/sockdiag", "internal/term", "modes", "netns", "nft", "rules", "sim", "sim/packet", "sim/survey"}},
		{"diagnose judges kernels and namespaces, and prints nothing", "internal/diagnose", true,
			[]string{"explain", "internal/continuity", "internal/escape", "internal/mountinfo", "internal/nl", "internal/parse", "internal/pods", "internal/problems", "internal/rtnl", "internal/scratch", "internal/sockdiag", "internal/term", "internal/version",
				"modes", "netns", "nft", "rules", "sim", "sim/packet", "sim/survey"}},
		{"proxy stands beside the ruleset, not on it", "proxy", true, nil},
		{"proxytest tests proxies by what the engine captures", "proxy/proxytest", true,
			[]string{"internal/parse", "internal/problems", "internal/continuity", "capture", "internal/escape", "internal/nl", "internal/mountinfo", "internal/rtnl", "internal/sockdiag", "internal/pods", "internal/scratch", "internal/term", "internal/version", "modes", "netns", "nft", "rules", "sim"}},
	} {
		for _, dep := range strings.Fields(goCommand(t, nil, "list", "-deps", "./"+tt.pkg)) {
			own, ours := strings.CutPrefix(dep, module)
			own, _, _ = strings.Cut(own, "/internal/") // what a package has of its own is part of it
			first, _, _ := strings.Cut(dep, "/")
			switch {
			case ours && own != tt.pkg && !slices.Contains(tt.own, own):
				t.Errorf("%s: %s depends on %s", tt.why, tt.pkg, dep)
			case !ours && !tt.others && strings.Contains(first, "."):
				t.Errorf("%s: %s depends on %s", tt.why, tt.pkg, dep)
			}
		}
	}
}

func TestProductRunsNoPrograms(t *testing.T) {
	out := goCommand(t, []string{"GOOS=linux"}, "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, "./...")
	for line := range strings.Lines(out) {
		words := strings.Fields(line)
		switch strings.TrimPrefix(words[0], module) {
		case "internal/bench", "internal/demo", "internal/tally", "proxy/proxytest": // which run what they measure, show or test, or the go command
			continue
		}
		if slices.Contains(words[1:], "os/exec") {
			t.Errorf("%s imports os/exec: weir talks to the kernel itself", words[0])
		}
	}
}

func TestPureRoomsBuildElsewhere(t *testing.T) {
	goCommand(t, []string{"GOOS=darwin", "CGO_ENABLED=0"}, "build", "./rules", "./sim", "./sim/packet", "./sim/survey", "./modes", "./config")
	goCommand(t, []string{"GOOS=windows", "CGO_ENABLED=0"}, "build", "./rules", "./sim", "./sim/packet", "./sim/survey", "./modes", "./config")
}
