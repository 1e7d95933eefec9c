// SPDX-License-Identifier: Apache-2.0

//go:build linux

package explain

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"

	"github.com/weir-mesh/weir/internal/problems"
	"github.com/weir-mesh/weir/sim"
)

// What [ReadRequests] reads, at most.
const (
	MaxRequests    = 100_000
	MaxRequestLine = 64 << 10 // bytes of a line
)

// ReadRequests reads packets as JSON, an object a line, empty lines aside:
//
//	{"packet": "tcp 10.0.0.1:443", "uid": 1000}
//
// The name says in errors what is read. The error tells what is wrong with each
// line, the first ones where there are many.
func ReadRequests(name string, r io.Reader) ([]sim.Packet, error) {
	var out []sim.Packet
	var errs []error
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, MaxRequestLine)
	n := 1
	for ; lines.Scan(); n++ {
		if len(bytes.TrimSpace(lines.Bytes())) == 0 {
			continue
		}
		if len(out) == MaxRequests {
			return nil, fmt.Errorf("%s: more than %d packets", name, MaxRequests)
		}
		p, err := parseLine(lines.Bytes())
		if err != nil {
			errs = append(errs, fmt.Errorf("%s:%d: %w", name, n, err))
		}
		out = append(out, p)
	}
	switch err := lines.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		errs = append(errs, fmt.Errorf("%s:%d: the line has more than %d bytes", name, n, MaxRequestLine))
	case err != nil:
		errs = append(errs, fmt.Errorf("%s:%d: %w", name, n, err))
	}
	return out, problems.Join(errs...)
}

func parseLine(line []byte) (p sim.Packet, err error) {
	var r Request
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	err = d.Decode(&r)
	var wrong *json.UnmarshalTypeError
	switch {
	case errors.As(err, &wrong) && wrong.Field != "":
		want := "number of 0-4294967295"
		if wrong.Type.Kind() == reflect.String {
			want = "text"
		}
		return p, fmt.Errorf("%s: unexpected %s (want a %s)", wrong.Field, wrong.Value, want)
	case errors.As(err, &wrong):
		return p, fmt.Errorf(`unexpected %s (want an object such as {"packet": "tcp 10.0.0.1:443"})`, wrong.Value)
	case err != nil:
		return p, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return p, errors.New("something follows the packet (want one object a line)")
	}
	return r.Parse()
}
