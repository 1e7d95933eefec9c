// SPDX-License-Identifier: Apache-2.0

//go:build linux

package report

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/weir-mesh/weir/internal/egress/units"
	"github.com/weir-mesh/weir/internal/egress/watch"
)

// nameOf is what an owner is called.
func nameOf(r watch.Row) string { return safe(cmp.Or(r.OwnerName, r.Owner, "not known")) }

// rowsOf joins the rows of a host, port and evidence over owners.
func rowsOf(rows []watch.Row, all uint64) (out []row) {
	type key struct {
		host, by, proto string
		port            uint16
	}
	at := map[key]int{}
	var sums []watch.Row
	owners := map[key][]string{}
	for _, r := range rows {
		k := key{r.Host, r.By, r.Proto, r.Port}
		owners[k] = append(owners[k], nameOf(r))
		i, known := at[k]
		if !known {
			at[k] = len(sums)
			sums = append(sums, r)
			continue
		}
		s := &sums[i]
		s.Conns, s.Sent, s.Received = s.Conns+r.Conns, s.Sent+r.Sent, s.Received+r.Received
	}
	slices.SortStableFunc(sums, func(a, b watch.Row) int { return cmp.Compare(b.Sent+b.Received, a.Sent+a.Received) })
	for _, r := range sums {
		of := slices.Compact(slices.Sorted(slices.Values(owners[key{r.Host, r.By, r.Proto, r.Port}])))
		one := row{Host: safe(r.Host), By: safe(r.By), Owners: strings.Join(of, ", "), Port: fmt.Sprintf("%d/%s", r.Port, safe(r.Proto)), Conns: connsOf(r),
			Sent: units.Bytes(r.Sent), Received: units.Bytes(r.Received), Share: share(r.Sent+r.Received, all), Doubtful: strings.HasSuffix(r.By, watch.Contradicted)}
		for _, n := range r.Names {
			one.Names = append(one.Names, safe(n))
		}
		out = append(out, one)
	}
	return out
}

// connsOf is how many connections a row has: none where there are datagrams.
func connsOf(r watch.Row) string {
	if r.Proto == "udp" {
		return "-"
	}
	return fmt.Sprint(r.Conns)
}

// doubtful are the hosts whose names resolvers contradict, a few of them by name.
func doubtful(rows []watch.Row) string {
	bytes := map[string]uint64{}
	for _, r := range rows {
		if strings.HasSuffix(r.By, watch.Contradicted) {
			bytes[safe(r.Host)] += r.Sent + r.Received
		}
	}
	return some(bytes)
}

// some are the first keys by value, and how many more there are.
func some(of map[string]uint64) string {
	first := most(of, maxInto)
	text := strings.Join(first, ", ")
	if left := len(of) - len(first); left > 0 {
		text += fmt.Sprintf(" and %d more", left)
	}
	return text
}

func ownersOf(rows []watch.Row, all uint64) (out []owner) {
	type sum struct{ conns, sent, received uint64 }
	sums, bytes, into := map[string]sum{}, map[string]uint64{}, map[string]map[string]uint64{}
	for _, r := range rows {
		name := nameOf(r)
		s := sums[name]
		sums[name] = sum{s.conns + r.Conns, s.sent + r.Sent, s.received + r.Received}
		bytes[name] += r.Sent + r.Received
		if into[name] == nil {
			into[name] = map[string]uint64{}
		}
		into[name][safe(r.Host)] += r.Sent + r.Received
	}
	for _, name := range most(bytes, maxRows) {
		s := sums[name]
		out = append(out, owner{name, fmt.Sprint(s.conns), units.Bytes(s.sent), units.Bytes(s.received), some(into[name]), share(bytes[name], all)})
	}
	return out
}

func share(n, all uint64) float64 {
	if all == 0 {
		return 0
	}
	return 100 * float64(n) / float64(all)
}

// percent is a share in words: what is there at all is not nothing.
func percent(share float64) string {
	if share > 0 && share < 0.1 {
		return "<0.1 %"
	}
	return fmt.Sprintf("%.1f %%", share)
}

// meanings are those of evidence.
var meanings = []evidence{
	{By: "vip", Means: "the name whose virtual address was called: certain"},
	{By: "sni", Means: "the name in the client's ClientHello, over TCP: the client's claim"},
	{By: "quic", Means: "the same, in a decrypted Initial of QUIC"},
	{By: "http", Means: "the Host of the client's request to port 80"},
	{By: "dns", Means: "a resolver gave the address to the name"},
	{By: "address", Means: "not known: the address alone"},
}

func evidenceOf(bytes map[string]uint64) (out []evidence) {
	for _, m := range meanings {
		if n, used := bytes[m.By]; used {
			out = append(out, evidence{m.By, m.Means, units.Bytes(n)})
		}
		if n, used := bytes[m.By+watch.Contradicted]; used {
			out = append(out, evidence{m.By + watch.Contradicted, m.Means + ", which resolvers' answers contradict", units.Bytes(n)})
		}
	}
	return out
}
