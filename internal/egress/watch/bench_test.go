// SPDX-License-Identifier: Apache-2.0

//go:build linux

package watch

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/weir-mesh/weir/capture"
	"github.com/weir-mesh/weir/internal/scratch"
	"github.com/weir-mesh/weir/modes"
	"golang.org/x/sys/unix"
)

// processorTime is what the process has used: client, server, reader, and what the kernel does for
// them in their system calls.
func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkCost is the processor time of a connection with a TLS handshake, and of a GB received,
// where nothing is watched, where packets are counted, and where names are read besides: in rounds
// that take turns, as ratios to nothing with the interval that 90 of 100 lie in.
func BenchmarkCost(b *testing.B) {
	const rounds, turns, handshakes, bulk = 15, 10, 20, 4 << 20
	type way struct {
		name  string
		world world
		conns []float64
		bulks []float64
	}
	ways := []*way{{name: "nothing"}, {name: "counting"}, {name: "names"}}
	certificate := selfSigned(b)
	for _, w := range ways {
		w.world = bareWorld(b)
		serveBulk(b, w.world, certificate, bulk)
		if w.name == "nothing" {
			continue
		}
		config := modes.Config{Mode: modes.ModeEgress, Watch: modes.Watch{Resolvers: []string{"203.0.113.2"}}}
		if w.name == "counting" {
			config.Watch.Names = []string{"none"}
		}
		watched, err := Start(b.Context(), w.world.ns, config, capture.Options{}, nil)
		scratch.Must(b, err)
		b.Cleanup(func() { scratch.Must(b, watched.Close(context.Background())) })
	}
	for b.Loop() {
		for round := range rounds {
			for _, w := range ways {
				w.conns, w.bulks = append(w.conns, 0), append(w.bulks, 0)
			}
			for turn := range turns { // short ones: what else the machine does lasts longer
				for i := range ways {
					w := ways[(i+turn+round)%len(ways)]
					before := processorTime(b)
					call(b, w.world, handshakes, 0)
					middle := processorTime(b)
					call(b, w.world, 1, bulk)
					w.conns[len(w.conns)-1] += float64(middle-before) / (turns * handshakes)
					w.bulks[len(w.bulks)-1] += float64(processorTime(b)-middle) * 1e9 / (turns * bulk)
				}
			}
		}
	}
	for _, w := range ways {
		b.Logf("%-9s %4.0f us a connection, %s of nothing; %4.2f s a GB, %s", w.name, median(w.conns)/1e3, ratios(w.conns, ways[0].conns), median(w.bulks)/1e9, ratios(w.bulks, ways[0].bulks))
	}
}

// bareWorld is a pod and a host of IPv4.
func bareWorld(b *testing.B) world {
	b.Helper()
	return newWorldFor(b, "198.51.100.1/32")
}

// serveBulk answers a handshake with as many bytes as are asked for.
func serveBulk(b *testing.B, w world, certificate tls.Certificate, size int) {
	b.Helper()
	var ln net.Listener
	scratch.Must(b, w.away.Do(func() (err error) {
		ln, err = tls.Listen("tcp", "203.0.113.2:443", &tls.Config{Certificates: []tls.Certificate{certificate}, SessionTicketsDisabled: true})
		return err
	}))
	b.Cleanup(func() { _ = ln.Close() })
	zeros := make([]byte, size)
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				one := []byte{0}
				if _, err := io.ReadFull(conn, one); err == nil && one[0] == 1 {
					_, _ = conn.Write(zeros)
				}
			}()
		}
	}()
}

// call opens as many connections, and receives as many bytes of each.
func call(b *testing.B, w world, times, size int) {
	b.Helper()
	scratch.Must(b, w.pod.Do(func() error {
		for range times {
			if err := callOnce(size); err != nil {
				return err
			}
		}
		return nil
	}))
}

func callOnce(size int) error {
	conn, err := tls.Dial("tcp", "203.0.113.2:443", &tls.Config{ServerName: "bench.example", InsecureSkipVerify: true})
	if err != nil {
		return err
	}
	defer conn.Close()
	one := byte(0)
	if size > 0 {
		one = 1
	}
	if _, err := conn.Write([]byte{one}); err != nil {
		return err
	}
	n, err := io.Copy(io.Discard, conn)
	if err == nil && int(n) != size {
		err = fmt.Errorf("%d bytes of %d", n, size)
	}
	return err
}

func median(of []float64) float64 { return sorted(of)[len(of)/2] }

func sorted(of []float64) []float64 {
	out := slices.Clone(of)
	slices.Sort(out)
	return out
}

func ratios(of, to []float64) string {
	var all []float64
	for i := range of {
		all = append(all, of[i]/to[i])
	}
	all = sorted(all)
	return fmt.Sprintf("%.3f (%.3f-%.3f)", all[len(all)/2], all[len(all)/20], all[len(all)-1-len(all)/20])
}
