// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nft

import (
	"context"
	"errors"

	"github.com/weir-mesh/weir/rules"
)

// InnerPayload reports whether the kernel has rules read what follows a transport header
// (Linux 5.16). It asks by a batch whose last message fails: nothing of it is committed,
// and nobody's generation moves.
func (c *Conn) InnerPayload(ctx context.Context) (bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	b := &batch{}
	l := lower(b, &rules.Table{Name: trialTable})
	l.addTable()
	l.addAll(trial(nil, innerByte()), nil)
	const absent = trialTable + "-absent"
	lower(b, &rules.Table{Name: absent}).deleteTable()
	err := c.commit(ctx, b, 0)
	var rejected *RejectedError
	switch {
	case !errors.As(err, &rejected):
		return false, err
	case rejected.Where == "table inet "+absent:
		return true, nil
	}
	return false, nil
}

func innerByte() rules.Node { return rules.IhRaw(0, 1).Is("\x00") }
