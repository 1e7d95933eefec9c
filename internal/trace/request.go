// SPDX-License-Identifier: Apache-2.0

//go:build linux

package trace

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/weir-mesh/weir/rules"
	"github.com/weir-mesh/weir/sim/packet"
)

// maxRate is how many packets a second may be traced: each is some notifications.
const maxRate = 100_000

// Request says which packets to trace, and for how long, in words.
type Request struct {
	Protocol string  // tcp, udp, icmp or icmpv6; "" for any
	From, To string  // an address or a prefix, with a port or without, or a port alone; "" for any
	UID      *string // nil for any
	SYN      bool    // of TCP, only packets that open connections
	Rate     int
	Count    *int // nil for no end
	For      time.Duration
}

// An OptionError is what is wrong with one part of a [Request].
type OptionError struct {
	Option string // from, to, uid, syn, rate, count or for
	Err    error
}

func (e *OptionError) Error() string { return e.Option + ": " + e.Err.Error() }

// Unwrap returns what is wrong with it.
func (e *OptionError) Unwrap() error { return e.Err }

// Parse checks the request. The error joins every problem: an [*OptionError] for each
// part, and what is wrong with the packets as a whole.
func (r Request) Parse() (Options, error) {
	o := Options{SYN: r.SYN, Rate: uint32(r.Rate), For: r.For}
	var problems []error
	problem := func(option, format string, args ...any) {
		problems = append(problems, &OptionError{option, fmt.Errorf(format, args...)})
	}
	if r.Rate < 1 || r.Rate > maxRate {
		problem("rate", "%d is not a number of packets a second (want 1-%d)", r.Rate, maxRate)
	}
	if r.Count != nil {
		if o.Count = *r.Count; o.Count < 1 {
			problem("count", "%d is not a number of connections (want at least 1)", o.Count)
		}
	}
	if r.For <= 0 {
		problem("for", "%s leaves no time to trace (want such as 30s)", r.For)
	}
	if r.SYN && r.Protocol != "" && r.Protocol != "tcp" {
		problem("syn", "%s has no such packets (want tcp)", r.Protocol)
	}
	var err error
	if o.Match, err = r.match(); err != nil {
		problems = append(problems, err)
	}
	if r.UID != nil {
		id, err := strconv.ParseUint(*r.UID, 10, 32)
		if err != nil {
			problem("uid", "%q is not a user ID (want 0-4294967295)", *r.UID)
		}
		uid := rules.UID(id)
		o.UID = &uid
	}
	return o, errors.Join(problems...)
}

// match are the matches of the protocol and both ends.
func (r Request) match() ([]rules.Node, error) {
	var of packet.Pattern
	var protoErr error
	proto := r.Protocol
	if proto != "" {
		of, protoErr = packet.Parse(proto + " 0.0.0.0")
	}
	if protoErr != nil {
		protoErr, proto = fmt.Errorf("%q is not a protocol (want tcp, udp, icmp or icmpv6)", proto), ""
	}
	source, fromErr := parseEnd("from", proto, r.From)
	destination, toErr := parseEnd("to", proto, r.To)
	match, err := Match(of.Proto, source, destination)
	return match, errors.Join(protoErr, fromErr, toErr, err)
}

// parseEnd reads one end of packets, which without a protocol may have ports.
func parseEnd(option, proto, text string) (packet.Pattern, error) {
	if text == "" {
		return packet.Pattern{}, nil
	}
	p, err := packet.Parse(cmp.Or(proto, "tcp") + " " + text)
	if err != nil {
		return p, &OptionError{option, err}
	}
	return p, nil
}
