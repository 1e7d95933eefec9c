// SPDX-License-Identifier: Apache-2.0

//go:build linux

package integration

import (
	"strings"
	"testing"
)

// TestGraphOfOthers: every ruleset of other programs is drawn, in both formats.
func TestGraphOfOthers(t *testing.T) {
	t.Parallel()
	c := newCLI(t)
	for name, text := range others(t) {
		t.Run(name, func(t *testing.T) {
			here := c.elsewhere(t)
			here.nft(text)
			for _, title := range titlesOf(text) {
				v := jsonOf[showJSON](t, here.ok("show", "--json", "--foreign", title))
				page := here.ok("graph", "--format", "html", "--foreign", title)
				chart := here.ok("graph", "--foreign", title)
				for _, ch := range v.Chains {
					if !strings.Contains(page, "<h3>"+ch.Name) || !strings.Contains(chart, "<b>"+ch.Name+"</b>") {
						t.Errorf("%s: chain %s is not drawn", title, ch.Name)
					}
				}
			}
			if name == "kube-proxy" {
				page := here.ok("graph", "--format", "html", "--foreign", "ip kube-proxy")
				for _, want := range []string{`class="unknown"`, "and 992 more", "no known rule leads here"} {
					if !strings.Contains(page, want) {
						t.Errorf("the page lacks %q", want)
					}
				}
			}
		})
	}
}

// TestGraph draws a configuration without privileges, and what a namespace holds
// with counters and a packet's path.
func TestGraph(t *testing.T) {
	t.Parallel()
	c := newCLI(t)
	config := []string{"--mode", "sidecar", "--proxy-uids", "1337"}
	draw := func(args ...string) outcome { return c.run(append([]string{"graph"}, args...)...) }
	draw(append(config, "--uid", "1000", "tcp", "203.0.113.10:80")...).want(t, 0).prints(t,
		"flowchart TB", "<b>12. all other TCP goes to the outbound listener", "classDef path")
	draw(append(config, "--format", "html", "--uid", "1000", "tcp", "203.0.113.10:80")...).want(t, 0).prints(t,
		"captured: lands on the outbound listener, port 15001", `<span class="step" id="step1">`, `<p class="fate"><a href="#step1">`, "<h1>the configuration of the flags: tcp ")

	draw().want(t, 0).prints(t, "there is no table inet weir")
	c.outward()
	c.ok(append([]string{"apply"}, config...)...)
	c.nft("table ip theirs {\nchain early {\ntype nat hook output priority -101\n}\n}\n")
	c.nft("table netdev theirs {\nchain early {\ntype filter hook ingress device out priority 0\n}\n}\n")
	c.connect("198.51.100.7:80")
	draw("--format", "html", "--uid", "1000", "tcp", "198.51.100.7:80").want(t, 0).prints(t,
		"as the namespace holds it", "<span class=\"count\">1 packet</span>", "--heat:1.00", "ip theirs early", "netdev theirs early <small>filter 0, out</small>", "captured: lands on")

	draw("--format", "svg").want(t, 2).says(t, `--format: "svg" is not one of: mermaid, html`)
	draw(append(config, "--live")...).want(t, 2).says(t, "--live draws what the namespace holds")
	draw(append(config, "--foreign", "ip x")...).want(t, 2).says(t, "--foreign draws a table that is not weir's")
	draw("--foreign", "ip x").want(t, 1).says(t, "graph ip x: there is no such table")
	draw(append(config, "tcp")...).want(t, 2)
}
