// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
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

// arrows are what each package may import of the module, and why it stands where it
// does.
var arrows = map[string]struct {
	why    string
	others bool // it may import packages of other modules
	own    []string
}{
	"internal/man":        {"man writes the manual of any command line, whichever library reads it", false, nil},
	"internal/man/climan": {"climan is the flag library's side of the manual, for every program", true, []string{"internal/man", "internal/version"}},
	"internal/release":    {"release builds programs and what is shipped with them", true, []string{"internal/image"}},
	"internal/atomicfile": {"atomicfile writes files, whatever they hold", false, nil},

	"internal/escape":         {"escape writes text, whoever wrote it", false, nil},
	"internal/reserved":       {"reserved knows the names that weir keeps for itself", false, nil},
	"internal/term":           {"term words messages and lays them out, whatever they are about", false, nil},
	"internal/input":          {"input reads files and standard input, whatever they hold", false, []string{"internal/escape", "internal/term"}},
	"internal/stderr":         {"stderr writes messages, whatever they say", true, nil},
	"internal/tty":            {"tty knows terminals, whatever appears on them", true, []string{"internal/escape", "internal/term"}},
	"internal/clihelp":        {"clihelp has the flag library's help fit a terminal, for every program", true, []string{"internal/escape", "internal/term", "internal/tty"}},
	"internal/oneproc":        {"oneproc is a setting of the runtime", false, nil},
	"internal/version":        {"version is a fact of the build", false, nil},
	"rules":                   {"rules says what a ruleset is, and knows no other package", false, []string{"internal/escape", "internal/reserved"}},
	"internal/egress/names":   {"names reads copies of packets, and knows no kernel", true, nil},
	"internal/egress/metrics": {"metrics counts traffic and requests, whoever moved them", true, nil},
	"internal/egress/units":   {"units writes numbers, whatever they count", false, nil},
	"internal/egress/report":  {"report makes a page of what watch wrote", true, []string{"internal/egress/units", "internal/egress/watch", "internal/escape"}},
	"internal/egress/watch":   {"watch counts what a namespace calls, and prints nothing", true, []string{"capture", "internal/egress/names", "internal/nl", "internal/sockdiag", "modes", "netns", "nft", "rules"}},
	"internal/continuity":     {"continuity writes what keeps connections alive, and knows rules alone", false, []string{"rules"}},
	"modes":                   {"modes is pure and knows rules alone", false, []string{"internal/continuity", "internal/parse", "internal/problems", "internal/reserved", "internal/term", "rules"}},
	"internal/problems":       {"problems joins errors, whatever they are about", false, nil},
	"internal/parse":          {"parse reads single words, and knows values of rules alone", false, []string{"rules"}},
	"internal/diagnose":       {"diagnose judges kernels and namespaces, and prints nothing", true, []string{"explain", "internal/conflict", "internal/conflict/sight", "internal/continuity", "internal/escape", "internal/pods", "internal/reserved", "internal/scratch", "internal/version", "modes", "netns", "nft", "rules", "sim", "sim/survey"}},
	"config":                  {"config is words and places, and knows modes and a YAML reader", true, []string{"internal/escape", "internal/problems", "internal/term", "modes"}},
	"sim":                     {"sim is what a kernel does with a packet, and knows rules alone", false, []string{"internal/escape", "rules"}},
	"sim/packet":              {"packet is the grammar of packets", false, []string{"rules", "sim"}},
	"internal/graph":          {"graph draws rules and journeys, whoever made them", false, []string{"internal/escape", "rules", "sim"}},
	"sim/survey":              {"survey cuts the space of packets", false, []string{"rules", "sim"}},
	"nft":                     {"nft carries rules to the kernel, whatever mode made them", true, []string{"internal/conntrack", "internal/continuity", "internal/escape", "internal/nl", "internal/reserved", "internal/rtnl", "internal/sockdiag", "internal/term", "rules"}},
	"internal/nl":             {"nl is netlink, whatever it carries", true, nil},
	"internal/mountinfo":      {"mountinfo reads a list of mounts, whatever it is read for", false, nil},
	"internal/bpf":            {"bpf speaks one system call, whoever asks", true, nil},
	"internal/cgroupmark":     {"cgroupmark gives sockets of a cgroup a mark, and knows nothing of rules", true, []string{"internal/bpf"}},
	"internal/proc":           {"proc reads files of the kernel, whatever they say", true, nil},
	"internal/rtnl":           {"rtnl reads what rtnetlink lists, whatever it is read for", true, []string{"internal/nl"}},
	"internal/conntrack":      {"conntrack reads what connection tracking remembers, whatever it is read for", true, []string{"internal/nl", "internal/proc"}},
	"internal/sockdiag":       {"sockdiag lists sockets, whatever they are listed for", true, []string{"internal/nl", "internal/proc"}},
	"netns":                   {"netns opens namespaces and their netlink, whoever asks", true, []string{"internal/bpf", "internal/escape", "internal/mountinfo", "internal/nl", "internal/proc", "internal/reserved", "internal/rtnl", "internal/sockdiag", "nft", "rules", "sim"}},
	"internal/pods":           {"internal/pods knows nodes, and no rules of its own", true, []string{"internal/escape", "internal/mountinfo", "netns"}},
	"internal/podlist":        {"podlist is a list of pods as text, and changes nothing", true, []string{"capture", "config", "internal/problems", "internal/term"}},
	"internal/trace":          {"trace follows packets across rules, and prints none", true, []string{"netns", "nft", "rules", "sim/packet"}},
	"capture":                 {"capture is the engine: it knows namespaces, rules and modes, and no command", true, []string{"capture/internal/policy", "internal/cgroupmark", "internal/conflict", "internal/conflict/sight", "internal/escape", "internal/parse", "internal/reserved", "internal/term", "internal/version", "modes", "netns", "nft", "rules", "sim"}},
	"capture/capturetest":     {"capturetest stands for a kernel, and asks the engine's own policy", true, []string{"capture", "capture/internal/policy", "internal/version", "modes", "nft", "rules"}},
	"internal/meshinit":       {"meshinit is what meshes' init programs have in common, and prints nothing", true, []string{"capture", "internal/problems", "internal/term", "modes", "netns"}},
	"internal/linkerd":        {"linkerd is proxy-init's arguments", true, []string{"internal/mesh/options", "internal/meshinit", "internal/problems", "internal/term", "modes"}},
	"internal/kuma":           {"kuma is the arguments of install transparent-proxy", true, []string{"internal/mesh/options", "internal/meshinit", "internal/problems", "internal/term", "modes", "netns"}},
	"internal/consul":         {"consul is redirect-traffic's arguments", true, []string{"internal/mesh/options", "internal/meshinit", "internal/problems", "internal/term", "modes"}},
	"internal/istio":          {"istio is what istio-init does beyond the engine, and prints nothing", true, []string{"capture", "internal/mesh/options", "internal/meshinit", "internal/parse", "internal/problems", "internal/term", "modes", "netns", "proxy", "rules"}},
	"internal/bench":          {"bench measures the binary beside others", true, []string{"internal/bench/paired", "internal/scratch", "modes", "nft", "proxy", "rules"}},
	"internal/bench/paired":   {"paired compares numbers, whatever they measure", false, nil},
	"internal/demo":           {"demo shows the binary at work", true, []string{"internal/scratch", "proxy"}},
	"internal/bench/bare":     {"bare is the cost of a process that does nothing", false, nil},
	"internal/kernels":        {"kernels runs the tests on other kernels", true, nil},
	"internal/image":          {"image writes archives of files, whatever they are", false, nil},
	"internal/image/pack":     {"pack is image as a command", false, []string{"internal/image"}},
	"internal/tally":          {"tally counts what go test prints", false, nil},
	"internal/show":           {"show gathers what there is to see of a namespace, and prints nothing", true, []string{"explain", "internal/conflict", "internal/conflict/sight", "internal/continuity", "internal/escape", "internal/graph", "internal/term", "netns", "nft", "rules", "sim"}},
	"internal/scratch":        {"scratch makes networks and knows nothing of interception", true, nil},
	"internal/lab":            {"lab judges fates and knows nothing of what it judges", true, []string{"internal/scratch"}},
	"internal/mesh":           {"mesh reads what pods say, and knows no kernel and no API", true, []string{"config", "internal/mesh/options", "internal/problems", "internal/term", "modes"}},
	"internal/mesh/options":   {"options mean a configuration, whoever gives them", true, []string{"internal/parse", "internal/term", "modes"}},
	"internal/agent":          {"agent is a protocol, whatever is asked", true, nil},
	"internal/kube":           {"kube asks an API server for a pod", true, []string{"internal/mesh"}},
	"internal/node/ambient":   {"ambient is what the agent does for pods without a proxy of their own", true, []string{"capture", "internal/atomicfile", "internal/cni", "internal/mesh", "internal/reserved", "internal/zds", "modes", "netns"}},
	"internal/zds":            {"zds is a protocol, whatever pods are told of", true, nil},
	"internal/zds/zdstest":    {"zdstest is the other end of the protocol", true, []string{"internal/zds"}},
	"internal/cni":            {"cni is a way into the engine, for container runtimes", true, []string{"capture", "config", "internal/agent", "internal/escape", "internal/istio", "internal/ledger", "internal/mesh", "internal/problems", "internal/term", "internal/version", "modes", "netns", "nft", "rules", "sim"}},
	"internal/cni/install":    {"install edits files of a node, and calls no runtime", true, []string{"internal/cni"}},
	"internal/ledger":         {"ledger is a folder of hashes, which plugin and agent share", false, nil},
	"internal/node":           {"node is the node's agent: what it finds is mended by the engine, and told", true, []string{"capture", "config", "internal/agent", "internal/atomicfile", "internal/cgroupmark", "internal/cni", "internal/conflict", "internal/escape", "internal/ledger", "internal/mesh", "internal/node/ambient", "internal/node/escapes", "internal/node/inventory", "internal/node/keep", "internal/node/watch", "internal/problems", "internal/reserved", "internal/zds", "modes", "netns", "nft", "rules"}},
	"internal/node/escapes":   {"escapes copies rules as counters, and knows no kernel", false, []string{"internal/reserved", "rules"}},
	"internal/node/nri":       {"nri hears of pods from a container runtime", true, []string{"internal/node/inventory"}},
	"internal/node/metrics":   {"metrics counts what the agent finds", true, []string{"capture", "internal/node", "internal/node/escapes", "internal/node/inventory", "internal/node/keep"}},
	"internal/node/kubeapi":   {"kubeapi is what the agent knows of a cluster, and writes there", true, []string{"capture", "internal/escape", "internal/mesh", "internal/node", "internal/node/escapes", "internal/node/inventory", "internal/node/keep"}},
	"internal/node/health":    {"health answers probes, whatever is ready", false, nil},
	"internal/node/installer": {"installer keeps the plugin installed", true, []string{"internal/cni/install"}},
	"internal/node/inventory": {"inventory finds a node's pods, and knows nothing of capture", true, []string{"internal/pods", "internal/problems", "netns"}},
	"internal/node/watch":     {"watch hears network namespaces, whatever should be in them", true, []string{"internal/nl"}},
	"internal/node/keep":      {"keep decides when to look and to heal, and knows no kernel", false, nil},
	"explain":                 {"explain answers about packets, from a configuration or a namespace", true, []string{"internal/conflict", "internal/conflict/sight", "internal/escape", "internal/problems", "modes", "netns", "nft", "rules", "sim", "sim/packet", "sim/survey"}},
	"proxy":                   {"proxy stands beside the ruleset, not on it", true, nil},
	"proxy/proxytest":         {"proxytest tests proxies by what the engine captures", true, []string{"capture", "internal/scratch", "modes", "netns"}},

	"internal/egress/virtual":  {"virtual gives names addresses, whoever answers with them", false, []string{"internal/atomicfile"}},
	"internal/egress/answer":   {"answer is a DNS server, wherever its addresses come from", true, []string{"proxy"}},
	"internal/egress/settings": {"settings are words and places, as config's", true, []string{"config", "internal/egress/metrics", "internal/egress/virtual", "internal/problems", "modes"}},
	"internal/egress/serve":    {"serve is in the path of named hosts, and prints nothing", true, []string{"capture", "internal/egress/answer", "internal/egress/metrics", "internal/egress/names", "internal/egress/settings", "internal/egress/virtual", "internal/escape", "internal/parse", "modes", "netns", "proxy", "rules"}},

	"internal/conflict":       {"conflict judges what stands in a ruleset's way, by evaluation alone", false, []string{"internal/escape", "modes", "rules", "sim"}},
	"internal/conflict/sight": {"sight reads in a namespace what conflict judges", true, []string{"internal/conflict", "internal/escape", "internal/reserved", "netns", "nft", "rules", "sim"}},
}

// TestArrowsPointOneWay: whoever imports a package imports what that does, so that a
// package which keeps out of other modules may import none that does not.
func TestArrowsPointOneWay(t *testing.T) {
	met := map[string]bool{}
	for line := range strings.Lines(goCommand(t, nil, "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, "./...")) {
		words := strings.Fields(line)
		pkg := strings.TrimPrefix(words[0], module)
		if strings.HasPrefix(pkg, "cmd/") || strings.HasPrefix(pkg, "integration") {
			continue
		}
		owner, _, _ := strings.Cut(pkg, "/internal/") // what a package has of its own is part of it
		may, listed := arrows[owner]
		met[owner] = true
		if !listed {
			t.Errorf("%s has no arrows: say what it may import, and why", owner)
		}
		for _, path := range words[1:] {
			own, ours := strings.CutPrefix(path, module)
			first, _, _ := strings.Cut(path, "/")
			switch {
			case ours && !slices.Contains(may.own, own) && !strings.HasPrefix(own, owner+"/internal/"):
				t.Errorf("%s: %s imports %s", may.why, pkg, own)
			case ours && !may.others && arrows[own].others, !ours && !may.others && strings.Contains(first, "."):
				t.Errorf("%s: %s imports %s, and with it other modules", may.why, pkg, path)
			}
		}
	}
	for pkg := range arrows {
		if !met[pkg] {
			t.Errorf("there is no package %s", pkg)
		}
	}
}

func TestProductRunsNoPrograms(t *testing.T) {
	out := goCommand(t, []string{"GOOS=linux"}, "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, "./...")
	for line := range strings.Lines(out) {
		words := strings.Fields(line)
		switch strings.TrimPrefix(words[0], module) {
		case "internal/bench", "internal/demo", "internal/kernels", "internal/release", "internal/tally", "proxy/proxytest": // which run what they measure, show or test, the go command or an emulator
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

// maxCommand is how many lines the command may have, tests apart: flags and printing.
const maxCommand = 4500

// maxFile is how many lines one file of the command may have.
const maxFile = 250

// commandMay are the packages of this module that the command may import besides those
// under internal/: what it does is theirs to do.
var commandMay = []string{"capture", "config", "explain", "modes", "netns"}

const flagLibrary = "github.com/urfave/cli/v2"

func TestTheCommandKnowsTheEngineAlone(t *testing.T) {
	imports := strings.Fields(goCommand(t, nil, "list", "-f", `{{join .Imports " "}}`, "./cmd/weir"))
	if !slices.Contains(imports, module+"capture") {
		t.Fatalf("the imports of cmd/weir were not listed: %q", imports)
	}
	for _, path := range imports {
		own, isOwn := strings.CutPrefix(path, module)
		first, _, _ := strings.Cut(path, "/")
		switch {
		case isOwn && (strings.HasPrefix(own, "internal/") || slices.Contains(commandMay, own)):
		case isOwn:
			t.Errorf("cmd/weir imports %s: a package under internal/, or the engine, is to do that", own)
		case path != flagLibrary && strings.Contains(first, "."):
			t.Errorf("cmd/weir imports %s: of other modules it may import %s alone", path, flagLibrary)
		}
	}
}

func TestTheCommandIsThin(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	lines := 0
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		n := strings.Count(string(text), "\n")
		if n > maxFile {
			t.Errorf("%s has %d lines, at most %d: a file has one subject", name, n, maxFile)
		}
		lines += n
	}
	if lines == 0 {
		t.Fatal("no file of the command was read")
	}
	if lines > maxCommand {
		t.Errorf("cmd/weir has %d lines, at most %d: what is neither flags nor printing belongs in a package", lines, maxCommand)
	}
}

// TestVetsElsewhere: who develops on another system can vet the module there. Every
// file of a package that needs Linux begins with //go:build linux, so that the package
// is none there.
func TestVetsElsewhere(t *testing.T) {
	goCommand(t, []string{"GOOS=darwin", "CGO_ENABLED=0"}, "vet", "./...")
}

// talks are packages that use the arguments or the standard streams although they are
// no program, and why.
var talks = map[string]string{
	"proxy/proxytest": "its server runs in a process of its own, whose main it is",
}

// TestOnlyProgramsTalk: arguments and standard streams are for package main alone; all
// else is given readers and writers.
func TestOnlyProgramsTalk(t *testing.T) {
	read := 0
	for line := range strings.Lines(goCommand(t, []string{"GOOS=linux"}, "list", "-f", `{{.Name}} {{.ImportPath}} {{.Dir}} {{join .GoFiles " "}}`, "./...")) {
		words := strings.Fields(line)
		pkg := strings.TrimPrefix(words[1], module)
		if words[0] == "main" || talks[pkg] != "" {
			continue
		}
		for _, name := range words[3:] {
			file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(words[2], name), nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			read++
			ast.Inspect(file, func(n ast.Node) bool {
				s, isSelector := n.(*ast.SelectorExpr)
				if !isSelector {
					return true
				}
				if of, isName := s.X.(*ast.Ident); isName && of.Name == "os" && slices.Contains([]string{"Args", "Stdin", "Stdout", "Stderr"}, s.Sel.Name) {
					t.Errorf("%s: %s uses os.%s, which is for package main", pkg, name, s.Sel.Name)
				}
				return true
			})
		}
	}
	if read < 100 {
		t.Errorf("%d files were read", read)
	}
}

// TestLicenceLines: each file of source says its licence in the way of SPDX.
func TestLicenceLines(t *testing.T) {
	comments := map[string]string{".go": "// %s\n\n", ".mod": "// %s\n\n", ".css": "/* %s */\n", ".html": "{{- /* %s */ -}}\n", ".yaml": "# %s\n", ".yml": "# %s\n", "Makefile": "# %s\n",
		".bash": "# %s\n", ".zsh": "# %s\n", ".fish": "# %s\n", "run": "# %s\n", ".tpl": "{{- /* %s */ -}}\n", "NOTES.txt": "{{- /* %s */ -}}\n"}
	interpreter := regexp.MustCompile(`^(#!|#compdef ).*\n`) // the first line where there is one
	read := 0
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		comment := cmp.Or(comments[filepath.Ext(path)], comments[filepath.Base(path)])
		switch {
		case err != nil:
			return err
		case d.IsDir() && slices.Contains([]string{".git", "bin", "dist", "testdata"}, d.Name()):
			return filepath.SkipDir
		case d.IsDir() || comment == "":
			return nil
		}
		read++
		if line := fmt.Sprintf(comment, "SPDX-License-Identifier: Apache-2.0"); !strings.HasPrefix(interpreter.ReplaceAllString(readText(t, path), ""), line) {
			t.Errorf("%s does not begin with %q", path, line)
		}
		return nil
	})
	if err != nil || read == 0 {
		t.Fatalf("read %d files: %v", read, err)
	}
}

// TestWorkflows: what CI elsewhere does is a target of the Makefile, and what it uses is pinned.
func TestWorkflows(t *testing.T) {
	files, err := filepath.Glob("../../.github/workflows/*.yml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no workflows: %v", err)
	}
	for _, file := range files {
		text := readText(t, file)
		for _, run := range found(`(?m)^ +- run: (.*)$`, text) {
			if !regexp.MustCompile(`^(sudo env "PATH=\$PATH" )?(make [a-z][^;&|]*|\.ci/run)$`).MatchString(run) {
				t.Errorf("%s runs %q, which is not a target of make", file, run)
			}
		}
		for _, used := range found(`uses: (.*)`, text) {
			if !regexp.MustCompile(`^[a-z-]+/[a-z-]+@[0-9a-f]{40} # v[0-9.]+$`).MatchString(used) {
				t.Errorf("%s uses %q, which is not pinned", file, used)
			}
		}
	}
}
