// SPDX-License-Identifier: Apache-2.0

//go:build linux

package integration

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
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
		{"docs/node.md", "metadata:", podToMark},
		{"deploy/README.md", "make image", installs},
		{"deploy/README.md", "helm upgrade", runOnCluster},
		{"docs/operate.md", "weir graph", commands("weir graph --config pod.yaml --format html --uid 1000 tcp 93.184.216.34:443 > pod.html && grep -q '<html' pod.html")},
	}
}
