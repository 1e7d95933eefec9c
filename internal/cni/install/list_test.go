// SPDX-License-Identifier: Apache-2.0

//go:build linux

package install

import (
	"strings"
	"testing"
)

const added = `{"type":"weir-cni","capabilities":{"dns":true}}`

// TestLayout: everything that others wrote stays, byte for byte, and the entry is laid out as those before.
func TestLayout(t *testing.T) {
	for _, tt := range []struct{ why, list, want string }{
		{"lines", "{\n  \"cniVersion\": \"0.3.1\",\n  \"plugins\": [\n    {\n      \"type\": \"calico\"\n    }\n  ]\n}\n",
			"{\n  \"cniVersion\": \"0.3.1\",\n  \"plugins\": [\n    {\n      \"type\": \"calico\"\n    },\n    {\n      \"type\": \"weir-cni\",\n      \"capabilities\": {\n        \"dns\": true\n      }\n    }\n  ]\n}\n"},
		{"one line", `{"plugins":[{"type":"a"},{"type":"b"}],"name":"x"}`, `{"plugins":[{"type":"a"},{"type":"b"},` + added + `],"name":"x"}`},
		{"one line with blanks", `{"plugins": [ {"type":"a"}, {"type":"b"} ]}`, `{"plugins": [ {"type":"a"}, {"type":"b"}, ` + added + ` ]}`},
		{"tabs", "{\n\t\"plugins\": [\n\t\t{\"type\": \"a\", \"big\": 9007199254740993}\n\t]\n}",
			"{\n\t\"plugins\": [\n\t\t{\"type\": \"a\", \"big\": 9007199254740993},\n\t\t{\n\t\t\t\"type\": \"weir-cni\",\n\t\t\t\"capabilities\": {\n\t\t\t\t\"dns\": true\n\t\t\t}\n\t\t}\n\t]\n}"},
		{"ours first", `{"plugins":[{"type":"weir-cni","x":1},{"type":"a"}]}`, `{"plugins":[{"type":"a"},` + added + `]}`},
		{"ours twice", `{"plugins":[{"type":"a"},{"type":"weir-cni"},{"type":"b"},{"type":"weir-cni"}]}`, `{"plugins":[{"type":"a"},{"type":"b"},` + added + `]}`},
		{"brackets in strings", `{"x":"]}, [","plugins":[{"type":"a","s":"},]"}]}`, `{"x":"]}, [","plugins":[{"type":"a","s":"},]"},` + added + `]}`},
	} {
		l, err := parseList([]byte(tt.list))
		if err != nil {
			t.Errorf("%s: %v", tt.why, err)
			continue
		}
		got, err := l.with([]byte(added))
		if err != nil || string(got) != tt.want {
			t.Errorf("%s: %v\n%s\nwant\n%s", tt.why, err, got, tt.want)
			continue
		}
		if l, err = parseList(got); err != nil {
			t.Error(err)
		}
		if again, err := l.with([]byte(added)); err != nil || string(again) != tt.want {
			t.Errorf("%s: the second time %v\n%s", tt.why, err, again)
		}
		if rest, err := l.without(); err != nil || !strings.HasPrefix(tt.why, "ours") && string(rest) != tt.list {
			t.Errorf("%s: without it again %v\n%s\nwant\n%s", tt.why, err, rest, tt.list)
		}
	}
}

func TestNoList(t *testing.T) {
	for text, want := range map[string]string{
		"":                                    "not a map",
		"[]":                                  "not a map",
		`{"plugins":5}`:                       "no plugins",
		`{"type":"bridge"}`:                   "no plugins",
		`{"plugins":[{"type":"a"}]`:           "EOF",
		`{"plugins":[],"plugins":[]}`:         "twice",
		`{"plugins":[{"type":5}]}`:            "type",
		`{"plugins":[{"type":"a"}]} trailing`: "follows",
	} {
		if _, err := parseList([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}

func FuzzList(f *testing.F) {
	f.Add([]byte(`{"plugins":[{"type":"a"},{"type":"weir-cni"}]}`))
	f.Add([]byte("{\n\t\"plugins\": [\n\t\t{\"type\": \"a\"}\n\t]\n}"))
	f.Fuzz(func(t *testing.T, text []byte) {
		l, err := parseList(text)
		if err != nil {
			return
		}
		with, err := l.with([]byte(added))
		if err != nil {
			return
		}
		got, err := parseList(with)
		if err != nil {
			t.Fatalf("%q makes %q: %v", text, with, err)
		}
		if last := got.entries[len(got.entries)-1]; !got.isOurs(last) || count(got) != 1 {
			t.Errorf("%q: not last, or not once", with)
		}
	})
}
