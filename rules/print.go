// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"io"
	"net/netip"
	"strings"

	"github.com/weir-mesh/weir/internal/escape"
	"github.com/weir-mesh/weir/internal/reserved"
)

// Print writes the state as a script that `nft -f` loads, and loads again alike:
// the table is replaced whole. What nft does not do (policy rules, routes,
// addresses) follows as comments, in ip(8)'s words.
func (s State) Print(w io.Writer) error {
	_, err := io.WriteString(w, s.Abridged(0))
	return err
}

// Abridged is the state as [State.Print] writes it, but of sets with more than
// most elements their number alone, unless most is 0.
func (s State) Abridged(most int) string {
	p := &printer{most: most}
	n := s.Normal()
	if t := n.Table; t != nil {
		p.line("table inet %s", t.Name)
		p.line("delete table inet %s", t.Name)
		p.table(t)
	}
	for _, line := range n.Routing() {
		p.line("# %s", line)
	}
	return p.String()
}

// String is the state as [State.Print] writes it.
func (s State) String() string { return s.Abridged(0) }

// Routing says the addresses, routes and policy rules as commands of ip(8), and the
// sysctls with the reason for each.
func (s State) Routing() []string {
	var lines []string
	for _, a := range s.Addresses {
		lines = append(lines, addressText(a))
	}
	for _, r := range s.Routes {
		lines = append(lines, r.String())
	}
	for _, r := range s.PolicyRules {
		lines = append(lines, r.String())
	}
	for _, c := range s.Sysctls {
		lines = append(lines, fmt.Sprintf("sysctl %s = %s: %s", c.Name, c.Value, c.Why))
	}
	return lines
}

// addressText is an address of the loopback interface in ip(8)'s words.
func addressText(a netip.Prefix) string {
	how := "nodad" // else it could not be used for a second
	if a.Addr().Is4() {
		how = "scope host"
	}
	return fmt.Sprintf("ip address add %s dev lo %s", a, how)
}

func (r PolicyRule) String() string {
	from, then := "", fmt.Sprintf("lookup %d", r.Table)
	if r.In != "" {
		from = "iif " + escape.Text(r.In) + " "
	}
	if r.Goto != 0 {
		then = fmt.Sprintf("goto %d", r.Goto)
	}
	return fmt.Sprintf("ip %srule add priority %d %sfwmark 0x%x/0x%x %s protocol %d", r.Family.option(), r.Priority, from, r.Mark, r.Mask, then, reserved.RouteProtocol)
}

func (r Route) String() string {
	dst := r.Dst.String()
	if r.Dst.Bits() == 0 {
		dst = "default"
	}
	by := "lo"
	if r.Device != "" {
		by = fmt.Sprintf("%s metric %d", escape.Text(string(r.Device)), r.Metric())
	}
	return fmt.Sprintf("ip %sroute add local %s dev %s table %d protocol %d", r.Family.option(), dst, by, r.Table, reserved.RouteProtocol)
}

func (f Family) option() string {
	if f == IPv6 {
		return "-6 "
	}
	return ""
}

// printer writes nft text; indent is in tabs. Where most is not 0, longer sets
// are left out.
type printer struct {
	strings.Builder
	indent int
	most   int
	ports  int // comparisons with one port, in the rule at hand
}

func (p *printer) line(format string, args ...any) {
	if format != "" {
		p.WriteString(strings.Repeat("\t", p.indent))
		fmt.Fprintf(p, format, args...)
	}
	p.WriteByte('\n')
}

func (p *printer) block(title string, body func()) {
	p.line("%s {", title)
	p.indent++
	body()
	p.indent--
	p.line("}")
}

func (p *printer) table(t *Table) {
	p.block(t.title(), func() {
		for i, s := range t.Sets {
			if i > 0 {
				p.line("")
			}
			p.set(s)
		}
		for i, c := range t.Chains {
			if i+len(t.Sets) > 0 {
				p.line("")
			}
			p.chain(c)
		}
		for _, o := range t.Unsupported() {
			p.line("%s", unknown(o))
		}
	})
}

func (t *Table) title() string { return "table inet " + escape.Text(t.Name) }

func (c *Chain) title() string { return "chain " + escape.Text(c.Name) }

func (p *printer) chain(c *Chain) {
	p.block(c.title(), func() {
		if c.Base != nil {
			p.line("%s", c.Base)
		}
		if c.Others != "" {
			p.line("%s", unknown(c.Others))
		}
		for _, r := range c.Rules {
			p.line("%s", r)
		}
	})
}

// String is the base as nft writes it, with the priority as a number.
func (b Base) String() string {
	devices := ""
	if len(b.Devices) > 0 {
		devices = " devices = { " + strings.Join(mapped(b.Devices, quote), ", ") + " }"
	}
	policy := "accept"
	if b.Drop {
		policy = "drop"
	}
	return fmt.Sprintf("type %s hook %s%s priority %d; policy %s;", escape.Text(string(b.Type)), b.Hook, devices, b.Priority, policy)
}
