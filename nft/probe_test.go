// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nft

import "testing"

// TestProbesInnerPayload: this kernel has it, and asking changes nothing.
func TestProbesInnerPayload(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	c := dialKernel(t)
	before, err := c.generation(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	has, err := c.InnerPayload(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	after, err := c.generation(t.Context())
	if err != nil || after != before {
		t.Errorf("the generation went from %d to %d: %v", before, after, err)
	}
	trialErr := c.try(t.Context(), Feature{Name: "inner payload", table: trial(nil, innerByte())})
	if has != (trialErr == nil) {
		t.Errorf("inner payloads: %v, and a table with one: %v", has, trialErr)
	}
}
