// SPDX-License-Identifier: Apache-2.0

//go:build linux

package show

import (
	"context"
	"fmt"
	"strings"

	"github.com/weir-mesh/weir/internal/escape"
	"github.com/weir-mesh/weir/netns"
	"github.com/weir-mesh/weir/nft"
	"github.com/weir-mesh/weir/rules"
)

// TableName is a table by its family, in nft's word, and its name.
type TableName struct{ Family, Name string }

// ParseTableName reads a table's name as nft writes it: ip kube-proxy.
func ParseTableName(text string) (TableName, error) {
	words := strings.Fields(text)
	if len(words) != 2 {
		return TableName{}, fmt.Errorf("%q is not a table (want a family and a name, such as \"ip kube-proxy\")", text)
	}
	return TableName{words[0], words[1]}, nil
}

func (n TableName) String() string { return escape.Text(n.Family) + " " + escape.Text(n.Name) }

// is reports whether a table has the name.
func (n TableName) is(t *nft.LiveTable) bool { return t.Family == n.Family && t.Name == n.Name }

// NoTableError is that a namespace has no such table.
type NoTableError struct {
	Table   TableName
	Present []string // the titles of those that it has
}

func (e *NoTableError) Error() string {
	text := fmt.Sprintf("%s: there is no such table", e.Table)
	if len(e.Present) > 0 {
		text += " (there are: " + strings.Join(e.Present, ", ") + ")"
	}
	return text
}

// Foreign is the view of another program's table. The error is a [*NoTableError], or
// that the namespace cannot be read.
func Foreign(ctx context.Context, ns *netns.Namespace, name TableName) (View, error) {
	conn, err := ns.Nft()
	if err != nil {
		return View{}, netns.WithAdvice(err)
	}
	defer conn.Close()
	ruleset, err := conn.RulesetWith(ctx, name.is)
	if err != nil {
		return View{}, fmt.Errorf("%s: %w", name, err)
	}
	t := ruleset.Find(name.Family, name.Name)
	if t == nil {
		return View{}, noTable(ruleset, name)
	}
	v := emptyView(name.Family, name.Name)
	v.fill(t.Table)
	return v, nil
}

func noTable(r *nft.Ruleset, name TableName) *NoTableError {
	e := &NoTableError{Table: name}
	for _, t := range r.Tables {
		e.Present = append(e.Present, t.Title())
	}
	return e
}

// foreignOrder says when a base chain of another program runs, as against the chains of
// weir's table on its hook: by where the kernel has them, nat at its fixed places.
func foreignOrder(own *rules.Table, b rules.Base) string {
	before, after := false, false
	if own != nil {
		for _, c := range own.Chains {
			switch {
			case c.Base == nil || c.Base.Hook != b.Hook:
			case b.Ties(c.Base):
				return fmt.Sprintf("has the place of weir's chain %s: the chain that was made last runs first", c.Name)
			case b.RunsBefore(c.Base):
				before = true
			default:
				after = true
			}
		}
	}
	switch {
	case before && after:
		return "runs between weir's chains"
	case before:
		return "runs before weir's chains"
	case after:
		return "runs after weir's chains"
	}
	return "no chain of weir's is on this hook"
}
