// SPDX-License-Identifier: Apache-2.0

//go:build linux

package diagnose

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/weir-mesh/weir/internal/version"
	"github.com/weir-mesh/weir/netns"
	"github.com/weir-mesh/weir/nft"
)

// What a report holds at most: it is to be read, and sent.
const (
	maxReport      = 1 << 20 // bytes
	maxReportLines = 400     // of one list
)

// Report is a namespace as a bug report tells of it. Addresses of others than loopback
// stand as addr-1, addr-2 and so on, the same one as the same word throughout; nothing is
// read of files, environments or payloads.
type Report struct {
	Weir    string   `json:"weir"`
	Kernel  string   `json:"kernel"`
	Checks  []Check  `json:"checks"`
	Tables  []string `json:"tables"`  // of all programs, each rule as nft writes it
	Rules   []string `json:"rules"`   // policy rules
	Routes  []string `json:"routes"`  // of all tables but local
	Links   []string `json:"links"`   // with how many addresses they have
	Sockets []string `json:"sockets"` // that listen
	Missing []string `json:"missing,omitempty"`
}

// WriteReport is the report of a namespace, redacted and bounded, as JSON. What cannot be read
// is Missing, and what there was no room for.
func WriteReport(ctx context.Context, ns *netns.Namespace, checks []Check) ([]byte, error) {
	r := Report{Weir: version.String(), Kernel: netns.KernelRelease(), Checks: checks}
	r.tables(ctx, ns)
	r.host(ctx, ns)
	text, err := r.text()
	if err != nil {
		return nil, err
	}
	return text, ctx.Err()
}

// text is the report as it is written, with shorter lists where it would be too long.
func (r Report) text() ([]byte, error) {
	short := r
	for lines := maxReportLines; ; lines /= 2 {
		var text bytes.Buffer
		e := json.NewEncoder(&text)
		e.SetEscapeHTML(false) // it is read by people
		e.SetIndent("", "  ")
		if err := e.Encode(short); err != nil {
			return nil, err
		}
		if redacted := redact(text.Bytes()); len(redacted) < maxReport || lines == 0 {
			return redacted, nil
		}
		short = r.cut(lines / 2)
	}
}

// cut is the report with that many lines of each list, and a note of it.
func (r Report) cut(lines int) Report {
	note := fmt.Sprintf("lines after the first %d of each list: the report would be longer than %d bytes", lines, maxReport)
	for _, list := range []*[]string{&r.Tables, &r.Rules, &r.Routes, &r.Links, &r.Sockets, &r.Missing} {
		*list = slices.Clone((*list)[:min(len(*list), lines)])
	}
	r.Checks = slices.Clone(r.Checks[:min(len(r.Checks), lines)])
	r.Missing = append([]string{note}, r.Missing...)
	return r
}

func (r *Report) miss(what string, err error) {
	r.Missing = append(r.Missing, fmt.Sprintf("%s: %v", what, err))
}

func (r *Report) tables(ctx context.Context, ns *netns.Namespace) {
	conn, err := ns.Nft()
	if err != nil {
		r.miss("tables", err)
		return
	}
	defer conn.Close()
	ruleset, err := conn.RulesetWith(ctx, noElements)
	if err != nil {
		r.miss("tables", err)
		return
	}
	own := func(t *nft.LiveTable) bool { return t.Tag != nil }
	for _, first := range []bool{true, false} { // weir's: those of others may leave no room
		for _, t := range ruleset.Tables {
			if own(t) == first {
				r.Tables = bounded(r.Tables, tableLines(t))
			}
		}
	}
}

func tableLines(t *nft.LiveTable) []string {
	title := "table " + t.Title()
	if t.Tag != nil {
		title += " (" + t.Tag.String() + ")"
	}
	lines := []string{title}
	for _, s := range t.Sets {
		lines = append(lines, "  set "+s.Name+": "+s.Declaration())
	}
	for _, c := range t.Chains {
		line := "  chain " + c.Name
		if b := c.Base; b != nil {
			line += fmt.Sprintf(": %s %s %d, policy drop: %v", b.Type, b.Hook, b.Priority, b.Drop)
		}
		lines = append(lines, line)
		for i, rule := range c.Rules {
			lines = append(lines, fmt.Sprintf("    %d %s", i+1, rule.String()))
		}
	}
	return lines
}

// bounded appends as many lines as there is room for.
func bounded(to, lines []string) []string {
	for _, l := range lines {
		if len(to) == maxReportLines {
			return append(to, "... and more")
		}
		if len(to) > maxReportLines {
			return to
		}
		const longest = 1024
		to = append(to, l[:min(len(l), longest)])
	}
	return to
}

func (r *Report) host(ctx context.Context, ns *netns.Namespace) {
	host, err := ns.Host(ctx)
	if err != nil {
		r.miss("links, routes and sockets", err)
		return
	}
	for _, l := range host.Links {
		r.Links = bounded(r.Links, []string{fmt.Sprintf("%s: down: %v, %d addresses, rp_filter %d", l.Name, l.Down, len(l.Addresses), l.ReversePath)})
	}
	for _, p := range host.PolicyRules {
		r.Rules = bounded(r.Rules, []string{fmt.Sprintf("%+v", p)})
	}
	for _, p := range host.Routes {
		const local = 255
		if p.Table != local {
			r.Routes = bounded(r.Routes, []string{fmt.Sprintf("%+v", p)})
		}
	}
	for _, s := range host.Sockets {
		if !s.Remote.IsValid() {
			r.Sockets = bounded(r.Sockets, []string{fmt.Sprintf("protocol %d port %d of uid %d, IPv6: %v, transparent: %v, mark 0x%x",
				s.Proto, s.Local.Port(), s.UID, s.Local.Addr().Is6(), s.Transparent, uint32(s.Mark))})
		}
	}
}

// addressLike is compiled where a report is made: each command would pay for it at its start.
func addressLike() *regexp.Regexp {
	return regexp.MustCompile(`[0-9a-fA-F]*:[0-9a-fA-F:.]*:[0-9a-fA-F:.]*|\d+\.\d+\.\d+\.\d+`)
}

// redact puts words for the addresses that are not loopback, unspecified or those of the
// rules themselves.
func redact(text []byte) []byte {
	words := map[netip.Addr]string{}
	return addressLike().ReplaceAllFunc(text, func(found []byte) []byte {
		trimmed := strings.TrimRight(string(found), ".:")
		a, err := netip.ParseAddr(trimmed)
		if err != nil {
			if a, err = netip.ParseAddr(string(found)); err != nil {
				return found
			}
			trimmed = string(found)
		}
		if a.IsLoopback() || a.IsUnspecified() || a == netip.MustParseAddr("::6") || a == netip.MustParseAddr("169.254.7.127") {
			return found
		}
		word, known := words[a]
		if !known {
			word = fmt.Sprintf("addr-%d", len(words)+1)
			words[a] = word
		}
		return append([]byte(word), found[len(trimmed):]...)
	})
}
