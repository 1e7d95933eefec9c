// SPDX-License-Identifier: Apache-2.0

package parse

import (
	"strconv"
	"strings"
)

// Number reads a number of at most that many bits, in decimal or, where it
// may be, with 0x. A leading zero means octal to some readers and nothing to
// others, so it is refused.
func Number(word string, bits int, hexToo bool) (uint64, bool) {
	if digits, isHex := strings.CutPrefix(strings.ToLower(word), "0x"); isHex && hexToo {
		n, err := strconv.ParseUint(digits, 16, bits)
		return n, err == nil
	}
	if len(word) > 1 && word[0] == '0' {
		return 0, false
	}
	n, err := strconv.ParseUint(word, 10, bits)
	return n, err == nil
}
