// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nl

import (
	"bytes"
	"encoding/binary"
	"testing"

	"golang.org/x/sys/unix"
)

func attribute(typ uint16, data ...byte) []byte {
	b := binary.NativeEndian.AppendUint16(nil, uint16(AttributeHeader+len(data)))
	b = append(binary.NativeEndian.AppendUint16(b, typ), data...)
	return append(b, make([]byte, Align(len(data))-len(data))...)
}

// TestTake: each Take reads the next attribute of a type, and what was left shows.
func TestTake(t *testing.T) {
	a, err := Decode(join(attribute(1, 'a', 0), attribute(2|unix.NLA_F_NESTED, 1, 2), attribute(1, 'b')))
	if err != nil {
		t.Fatal(err)
	}
	if got := a.Number(2); got != 0x0102 {
		t.Errorf("a number is read as %#x", got)
	}
	if first, second := a.Text(1), a.Text(1); first != "a" || !a.AllTaken() || second != "b" {
		t.Errorf("the texts are %q and %q, all taken: %t", first, second, a.AllTaken())
	}
	if a.Has(1) || a.Take(1) != nil || a.Text(1) != "" || a.Number(9) != 0 || a.Native32(9) != 0 {
		t.Error("an attribute is taken twice, or one that is not there")
	}
}

// FuzzDecode: what Decode splits is what was put together, and it reads no further.
func FuzzDecode(f *testing.F) {
	f.Add(join(attribute(1, 'a', 0), attribute(2, 1, 2)))
	f.Add(attribute(1, 1, 2, 3, 4, 5)[:9])
	f.Add([]byte{3, 0, 1, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := Decode(b)
		if err != nil {
			return
		}
		at := 0
		for _, one := range a {
			length := AttributeHeader + len(one.Data)
			if !bytes.Equal(one.Data, b[at+AttributeHeader:at+length]) {
				t.Fatalf("attribute %d is not at %d of % x", one.Type, at, b)
			}
			at += Align(length)
		}
		if at < len(b) {
			t.Fatalf("%d of %d bytes are attributes", at, len(b))
		}
	})
}
