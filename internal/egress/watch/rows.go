// SPDX-License-Identifier: Apache-2.0

//go:build linux

package watch

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/weir-mesh/weir/rules"
)

// Row is one line of what was called: a host on a port, by an owner.
type Row struct {
	Host      string   `json:"host"`
	Names     []string `json:"names,omitempty"` // where the address has several
	Port      uint16   `json:"port"`
	Proto     string   `json:"proto"`
	Owner     string   `json:"owner"`               // a user id, a cgroup's id or a pod; "" where it is not known
	OwnerName string   `json:"ownerName,omitempty"` // of a user id, where it is known to whoever shows the row
	By        string   `json:"by"`                  // what the name is known from: sni, quic, http, dns or address; with ! where DNS contradicts
	Conns     uint64   `json:"connections"`
	Closed    uint64   `json:"closedConnections"` // with a name, whose end was heard
	Sent      uint64   `json:"sentBytes"`         // of IP packets
	Received  uint64   `json:"receivedBytes"`
	Now       uint64   `json:"bitsPerSecond"` // since the row was made last
}

// Name is what the row is of, whatever else it says: the host, or of several names their address.
func (r Row) Name() string {
	if len(r.Names) == 0 {
		return r.Host
	}
	address, _, _ := strings.Cut(r.Host, " ")
	return address
}

// Report is everything that was counted so far, most bytes first.
type Report struct {
	Time       time.Time `json:"time"`
	Rows       []Row     `json:"rows"`
	Lost       uint64    `json:"lostCopies"` // copies of packets that the reader was too slow for: names, not bytes
	Incomplete uint64    `json:"incomplete"` // ClientHellos and messages of which not all was copied
	Unasked    uint64    `json:"unaskedAnswers"`
	Overflow   uint64    `json:"uncountedPackets"` // that full sets had no room for
	Hellos     uint64    `json:"uncopiedHellos"`
	Others     uint64    `json:"otherNames"`      // connections and requests whose name had no room
	Unheard    bool      `json:"unheardCloses"`   // of some connections the end was not heard: what they moved stays with the address
	Drift      []string  `json:"drift,omitempty"` // in what the table is not as it was written
	Pods       int       `json:"pods,omitempty"`  // of a node: that are counted
	Wrong      []string  `json:"uncountedPods,omitempty"`
}

type rowKey struct {
	host, owner, by, proto string
	port                   uint16
}

// table are rows under construction.
type table map[rowKey]*Row

func (rows table) add(d Destination, host string, found []string, by string, t Total, closed uint64) {
	proto := "tcp"
	if d.Proto != rules.TCP {
		proto = "udp"
	}
	key := rowKey{host, d.Owner, by, proto, d.Addr.Port()}
	r := rows[key]
	if r == nil {
		r = &Row{Host: host, Names: found, Port: key.port, Proto: proto, Owner: d.Owner, By: by}
		rows[key] = r
	}
	r.Conns, r.Closed, r.Sent, r.Received = r.Conns+t.Opened, r.Closed+closed, r.Sent+t.Sent, r.Received+t.Received
}

// rows puts names and counts together. What has several names is split by the traffic of its
// sockets; the rest stays with the address.
func rows(c *counts, b *book, s *shared) []Row {
	byKey := table{}
	for d, t := range owned(c.totals) {
		found, by := b.of(d)
		slices.Sort(found)
		address := d.Addr.Addr().String()
		switch len(found) {
		case 0:
			byKey.add(d, address, nil, by, t, 0)
		case 1:
			byKey.add(d, found[0], nil, by, t, s.of(d, found[0]).Closed)
		default:
			parts, rest := s.parts(d, found, t)
			for name, part := range parts {
				byKey.add(d, name, nil, b.evidence(d, name), Total{Opened: part.Conns, Sent: part.Sent, Received: part.Received}, part.Closed)
			}
			byKey.add(d, fmt.Sprintf("%s (%d names)", address, len(found)), found, by, rest, 0)
		}
	}
	if o := c.other; o != (Total{}) {
		byKey[rowKey{host: otherName}] = &Row{Host: otherName, By: byAddress, Conns: o.Opened, Sent: o.Sent, Received: o.Received}
	}
	out := make([]Row, 0, len(byKey))
	for _, r := range byKey {
		out = append(out, *r)
	}
	slices.SortFunc(out, func(a, b Row) int {
		return cmp.Or(cmp.Compare(b.Sent+b.Received, a.Sent+a.Received), cmp.Compare(a.Host, b.Host), cmp.Compare(a.Port, b.Port), cmp.Compare(a.Owner, b.Owner), cmp.Compare(a.By, b.By))
	})
	return out
}

// owned has what no socket owned count for the owner of the rest, where a destination has one
// alone: the last packets of a connection are the kernel's.
func owned(totals map[Destination]*Total) map[Destination]Total {
	owners := map[Destination][]string{}
	for d := range totals {
		bare := d
		bare.Owner = ""
		if d.Owner != "" {
			owners[bare] = append(owners[bare], d.Owner)
		}
	}
	out := make(map[Destination]Total, len(totals))
	for d, t := range totals {
		if of := owners[d]; d.Owner == "" && len(of) == 1 {
			d.Owner = of[0]
		}
		out[d] = out[d].plus(*t)
	}
	return out
}

func (t Total) plus(o Total) Total {
	return Total{t.Opened + o.Opened, t.SentPackets + o.SentPackets, t.Sent + o.Sent, t.ReceivedPackets + o.ReceivedPackets, t.Received + o.Received}
}

// rates fills in what each row moves now, by the row of the report before.
func rates(now, before []Row, passed time.Duration) {
	had := map[rowKey]uint64{}
	key := func(r Row) rowKey { return rowKey{r.Name(), r.Owner, r.By, r.Proto, r.Port} }
	for _, r := range before {
		had[key(r)] = r.Sent + r.Received
	}
	if passed <= 0 {
		return
	}
	for i := range now {
		r := &now[i]
		if total := r.Sent + r.Received; total > had[key(*r)] {
			r.Now = uint64(float64(total-had[key(*r)]) * 8 / passed.Seconds())
		}
	}
}
