// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nft

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/weir-mesh/weir/internal/escape"
	"github.com/weir-mesh/weir/rules"
)

// ForeignChain is a base chain of another program.
type ForeignChain struct {
	Family, Table, Chain string
	Base                 rules.Base
}

func (f ForeignChain) String() string {
	return fmt.Sprintf("chain %s of table %s %s (%s %d)", escape.Text(f.Chain), f.Family, escape.Text(f.Table), f.Base.Hook, f.Base.Priority)
}

// foreignChains are the base chains of others in the families that our hooks
// see.
func foreignChains(chains map[familyTable][]*rules.Chain, own string) []ForeignChain {
	var out []ForeignChain
	for key, list := range chains {
		family := familyNames[key.family]
		if family == "" || isOwn(key, own) {
			continue
		}
		for _, c := range list {
			if c.Base != nil {
				out = append(out, ForeignChain{Family: family, Table: key.name, Chain: c.Name, Base: *c.Base})
			}
		}
	}
	slices.SortFunc(out, compareForeign)
	return out
}

func compareForeign(a, b ForeignChain) int {
	return cmp.Or(cmp.Compare(a.Base.Hook, b.Base.Hook), cmp.Compare(a.Base.Priority, b.Base.Priority),
		cmp.Compare(a.Family, b.Family), cmp.Compare(a.Table, b.Table), cmp.Compare(a.Chain, b.Chain))
}
