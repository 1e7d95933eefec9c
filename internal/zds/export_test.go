// SPDX-License-Identifier: Apache-2.0

//go:build linux

package zds

import "time"

// WithoutPause lets a test connect more often than proxies may.
func (s *Server) WithoutPause() *Server {
	s.interval = time.Microsecond
	return s
}

var (
	ParseHello = parseHello
	ParseAck   = parseAck
)
