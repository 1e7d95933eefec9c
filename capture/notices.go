// SPDX-License-Identifier: Apache-2.0

//go:build linux

package capture

import (
	"fmt"

	"github.com/weir-mesh/weir/internal/escape"
	"github.com/weir-mesh/weir/internal/reserved"
	"github.com/weir-mesh/weir/modes"
	"github.com/weir-mesh/weir/nft"
)

// Notices are what a verb met beside its own work. None of it is an error.
type Notices struct {
	Notes    []modes.Note // of the configuration
	Swept    []string     // tables of killed traces that were taken away
	Unswept  error        // why some may be left
	Applying *nft.Holder  // of the lock, where what was read may be half of another apply's change; else nil
}

// Message is a notice in words.
type Message struct {
	Warning bool // something may not work as wanted; else it is to know
	Text    string
}

func (m Message) String() string {
	if m.Warning {
		return "warning: " + m.Text
	}
	return "note: " + m.Text
}

// Messages are the notices in words, but for the configuration's notes, which stand
// where the configuration does.
func (n Notices) Messages() (out []Message) {
	for _, name := range n.Swept {
		out = append(out, Message{Text: fmt.Sprintf("took table inet %s away, left by a trace that was killed", escape.Text(name))})
	}
	if n.Unswept != nil {
		out = append(out, Message{Warning: true, Text: n.Unswept.Error()})
	}
	if n.Applying != nil {
		out = append(out, Message{Text: fmt.Sprintf("another apply may be at work, and this may be half of its change: table inet %s belongs to %s", reserved.Lock, n.Applying)})
	}
	return out
}
