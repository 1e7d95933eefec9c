// SPDX-License-Identifier: Apache-2.0

package graph

import (
	_ "embed"
	"fmt"
	"html"
	"io"
	"math"
	"slices"
	"strings"

	"github.com/weir-mesh/weir/internal/escape"
	"github.com/weir-mesh/weir/rules"
)

//go:embed page.css
var style string

// HTML writes the graph as one page, which needs nothing else: no script, no font,
// no network.
func (g Graph) HTML(w io.Writer) error {
	p := page{Graph: g, picture: g.picture()}
	p.add(`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<link rel="icon" href="data:,">
<title>%s</title>
<style>
%s</style>
</head>
`, text(g.Title), raw(style))
	class := ""
	if g.Journey != nil {
		class = ` class="traced"`
	}
	p.add("<body%s>\n<header>\n<h1>%s</h1>\n", raw(class), text(g.Title))
	for _, n := range g.Notes {
		p.add("<p>%s</p>\n", text(n))
	}
	p.fate()
	p.way()
	p.legend()
	p.add("</header>\n<main>\n")
	p.columns()
	p.add("</main>\n")
	p.footer()
	p.add("</body>\n</html>\n")
	_, err := io.WriteString(w, p.String())
	return err
}

type page struct {
	Graph
	*picture
	strings.Builder
}

type raw string

// text is what stands in a page as it reads.
func text(s string) raw { return raw(html.EscapeString(escape.Text(s))) }

// breakable is a text whose long words, such as addresses, may be broken after a colon.
func breakable(s string) raw {
	words := strings.Split(s, " ")
	for i, w := range words {
		words[i] = string(text(w))
		if len(w) > 20 {
			words[i] = strings.ReplaceAll(words[i], ":", ":<wbr>")
		}
	}
	return raw(strings.Join(words, " "))
}

// add writes the format, whose arguments are texts and numbers that stand for
// themselves.
func (p *page) add(format string, args ...any) { fmt.Fprintf(p, format, args...) }

// ways are those of packets that come in, pass through and are sent here.
var ways = [...]struct {
	name  string
	hooks []rules.Hook
}{
	{"in", []rules.Hook{rules.Ingress, rules.Prerouting, rules.Input}},
	{"through", []rules.Hook{rules.Forward}},
	{"out", []rules.Hook{rules.Output, rules.Postrouting, rules.Egress}},
}

// fate says what becomes of the packet, leads to the step that decides it, and lists every step: those of the kernel
// are in no chain.
func (p *page) fate() {
	switch at := p.decision(); {
	case p.Fate == "":
	case at == 0:
		p.add(`<p class="fate">%s</p>`+"\n", text(p.Fate))
	default:
		p.add(`<p class="fate"><a href="#step%d">%s</a></p>`+"\n", at, text(p.Fate))
	}
	if p.Journey == nil || len(p.Journey.Steps) == 0 {
		return
	}
	p.add("<ol class=\"steps\">\n")
	for i, s := range p.Journey.Steps {
		if step := i + 1; p.drawn[step] {
			p.add("<li><a href=\"#step%d\"><span class=\"step\">%d</span> %s</a></li>\n", step, step, text(stepName(s)))
		} else {
			p.add("<li>%s%s</li>\n", stepMark(step), text(stepText(s)))
		}
	}
	p.add("</ol>\n")
}

// decision is the number of the step that decides, 0 where no rule does.
func (p *page) decision() int {
	if p.Journey == nil {
		return 0
	}
	decision := p.Journey.Decision()
	for i, s := range slices.Backward(p.Journey.Steps) {
		if s.Chain != "" && s.Table == decision.Table && s.Family == decision.Family && s.Netdev == decision.Netdev && s.Chain == decision.Chain && s.Rule == decision.Rule {
			return i + 1
		}
	}
	return 0
}

// legend says what colours mean.
func (p *page) legend() {
	if p.Counted && p.most > 0 {
		p.add(`<p class="legend">packets that met a rule: <span class="heat">0</span> to <span class="heat" style="--heat:1.00">%d</span> on a logarithmic scale</p>`+"\n", p.most)
	}
}

// columns are the hooks side by side. A hook where no rule of the drawn tables is shares a column with its neighbours.
// Where the window is narrow all hooks of what comes in share one, and all of what is sent from here.
func (p *page) columns() {
	for _, isOut := range []bool{false, true} {
		hooks := slices.DeleteFunc(slices.Clone(p.hooks), func(h hook) bool { return slices.Contains(ways[len(ways)-1].hooks, h.hook) != isOut })
		if len(hooks) == 0 {
			continue
		}
		p.add("<div class=\"way\">\n<div class=\"column\">\n")
		isEmpty := true
		for _, h := range hooks {
			if !isEmpty && !h.isBare() {
				p.add("</div>\n<div class=\"column\">\n")
			}
			isEmpty = isEmpty && h.isBare()
			p.section(hookID(h.hook), h.hook.String(), h.boxes)
		}
		p.add("</div>\n</div>\n")
	}
	if len(p.loose) > 0 {
		p.section("loose", "no known rule leads here", p.loose)
	}
}

func (p *page) section(id, title string, boxes []*box) {
	p.add("<section class=\"hook\" id=\"%s\">\n<h2>%s</h2>\n", raw(id), text(title))
	for _, b := range boxes {
		p.box(b)
	}
	p.add("</section>\n")
}

// way leads to the hooks along packets' ways.
func (p *page) way() {
	p.add("<nav>")
	for _, w := range ways {
		var links []string
		for _, h := range p.hooks {
			if slices.Contains(w.hooks, h.hook) {
				links = append(links, fmt.Sprintf(`<a href="#%s">%s</a>`, hookID(h.hook), text(h.hook.String())))
			}
		}
		if len(links) > 0 {
			p.add(`<span>%s: %s</span> `, text(w.name), raw(strings.Join(links, ` <span class="to">→</span> `)))
		}
	}
	p.add("</nav>\n")
}

func (p *page) box(b *box) {
	class := "chain"
	if b.chain == nil {
		class += " other"
	}
	p.add("<article class=\"%s\" id=\"c%d\">\n<h3>%s", raw(class), b.number, text(b.title))
	if b.place != "" {
		p.add(" <small>%s</small>", text(b.place))
	}
	p.add("</h3>\n")
	if b.note != "" {
		p.add("<p>%s</p>\n", text(b.note))
	}
	for _, s := range b.steps {
		p.add("<p class=\"path\">%s%s</p>\n", stepMark(s), text(stepText(p.Journey.Steps[s-1])))
	}
	if len(b.rules) > 0 {
		p.add("<ol>\n")
		for _, l := range b.rules {
			p.rule(b, l)
		}
		p.add("</ol>\n")
	}
	for _, s := range b.sets {
		p.add("<aside><b>%s</b> <small>%s</small><br>%s</aside>\n", text(s.Name), text(s.Declaration()), text(elements(s)))
	}
	p.add("</article>\n")
	if len(b.below) > 0 {
		p.add("<div class=\"below\">\n")
		for _, c := range b.below {
			p.box(c)
		}
		p.add("</div>\n")
	}
}

func (p *page) rule(b *box, l line) {
	var classes []string
	if l.unknown {
		classes = append(classes, "unknown")
	}
	if len(l.steps) > 0 {
		classes = append(classes, "path")
	}
	p.add("<li")
	if len(classes) > 0 {
		p.add(` class="%s"`, raw(strings.Join(classes, " ")))
	}
	if p.Counted && l.packets > 0 {
		p.add(` style="--heat:%.2f"`, heat(l.packets, p.most))
	}
	p.add("><div class=\"what\">")
	for _, s := range l.steps {
		p.add("%s", stepMark(s))
	}
	if l.reason != "" {
		p.add(`<span class="reason">%s</span> `, text(l.reason))
	}
	if l.rest != "" {
		p.add("<code>%s</code>", text(l.rest))
	}
	if p.Counted && l.counted {
		noun := "packets"
		if l.packets == 1 {
			noun = "packet"
		}
		p.add(`<span class="count">%d %s</span>`, l.packets, raw(noun))
	}
	p.add("</div>")
	p.does(b, l)
	p.add("</li>\n")
}

// stepMark is the number of a step, where the fate leads to.
func stepMark(step int) raw {
	return raw(fmt.Sprintf(`<span class="step" id="step%d">%d</span> `, step, step))
}

const maxTargets = 8 // chains that a rule's arrows name

func (p *page) does(b *box, l line) {
	if len(l.targets) == 0 {
		if l.does != "" {
			p.add(`<span class="does %s">%s</span>`, raw(l.kind), breakable(l.does))
		}
		return
	}
	p.add(`<span class="does jump">`)
	for _, target := range l.targets[:min(len(l.targets), maxTargets)] {
		p.add(`<a href="#c%d">%s → %s</a> `, p.numbers[b.table.Chain(target)], text(l.arrowWord()), text(target))
	}
	if more := len(l.targets) - maxTargets; more > 0 {
		p.add("and %d more", more)
	}
	p.add("</span>")
}

// arrowWord is goto where a rule does not come back, "" for a jump or a map.
func (l line) arrowWord() string {
	if strings.Contains(" "+l.text, " goto ") {
		return "goto"
	}
	return ""
}

// heat is how much a rule counted against the one that counted most, from 0 to 1, by
// orders of magnitude.
func heat(packets, most uint64) float64 {
	return math.Log1p(float64(packets)) / math.Log1p(float64(most))
}

func (p *page) footer() {
	var lines []string
	lines = append(lines, p.Routing...)
	for _, t := range p.Tables {
		for _, o := range t.Unsupported() {
			lines = append(lines, "unknown in table "+t.Title+": "+o)
		}
	}
	if len(lines) == 0 {
		return
	}
	p.add("<footer>\n<h2>beside the chains</h2>\n<ul>\n")
	for _, l := range lines {
		p.add("<li><code>%s</code></li>\n", text(l))
	}
	p.add("</ul>\n</footer>\n")
}
