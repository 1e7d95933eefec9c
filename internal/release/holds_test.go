// SPDX-License-Identifier: Apache-2.0

package main

import "testing"

// TestSettled: the time is the commit's, the tool has no hashes, and components keep theirs.
func TestSettled(t *testing.T) {
	const made = `{
  "metadata": {
    "timestamp": "2026-11-29T02:46:00Z",
    "tools": [
      {
        "name": "x",
        "hashes": [
          {"content": "a+b"}
        ],
        "externalReferences": []
      }
    ]
  },
  "components": [{"hashes": [{"content": "c"}]}]
}`
	const want = `{
  "metadata": {
    "timestamp": "2026-01-01T00:00:00Z",
    "tools": [
      {
        "name": "x",
        "externalReferences": []
      }
    ]
  },
  "components": [{"hashes": [{"content": "c"}]}]
}`
	if got, err := settled([]byte(made), "2026-01-01T00:00:00Z"); err != nil || string(got) != want {
		t.Errorf("%v\n%s\nwant\n%s", err, got, want)
	}
}
