// SPDX-License-Identifier: Apache-2.0

//go:build linux

package integration

import (
	"bufio"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/weir-mesh/weir/internal/scratch"
	"github.com/weir-mesh/weir/rules"
)

const argumentsFile = "testdata/arguments.txt"

// argumentLines are the lists of arguments that the reference was tried with, and
// whether it takes them.
func argumentLines(t *testing.T) (ok, refused []string) {
	t.Helper()
	f, err := os.Open(argumentsFile)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		verdict, args, _ := strings.Cut(lines.Text(), " ")
		switch args = strings.TrimSpace(args); verdict {
		case "ok":
			ok = append(ok, args)
		case "refused":
			refused = append(refused, args)
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return ok, refused
}

// sent is a probe in short: who sends it to where, and where it lands.
type sent struct {
	uid, gid uint32
	in       bool // from the peer to the pod
	to       string
	mark     uint32
	land     string
}

func (s sent) probe(id string) scratch.Probe {
	dst := netip.MustParseAddrPort(s.to)
	p := scratch.Probe{ID: fmt.Sprintf("%s: %+v", id, s), Namespace: "pod", Proto: "tcp", UID: s.uid, GID: s.gid, Mark: s.mark, Dst: dst.Addr(), DPort: dst.Port()}
	if s.in {
		p.Namespace = "peer"
	}
	if s.mark != 0 {
		p.Src, p.Spoof = labAddresses[rules.IPv4].peer, true
	}
	return p
}

const (
	outside = "198.18.0.1:80"
	inside  = "198.18.0.2:"
)

func appOut(land string) sent              { return sent{uid: 1000, gid: 1000, to: outside, land: land} }
func outBy(uid, gid uint32, l string) sent { return sent{uid: uid, gid: gid, to: outside, land: l} }
func comesIn(port, land string) sent {
	return sent{uid: 1000, gid: 1000, in: true, to: inside + port, land: land}
}

// onward is the proxy's call with the client's address, which is answered where
// the marks and the routing work.
func onward(mark uint32) sent {
	return sent{uid: 1000, gid: 1000, mark: mark, to: inside + "8080", land: "pod:8080"}
}

// everyCapture is what most of the lists capture.
var everyCapture = []sent{appOut("pod:15001"), outBy(1337, 1337, "peer:7000"), comesIn("8080", "pod:15006"), comesIn("15008", "pod:15008")}

// meanings are what the lists that the reference takes do with telling packets:
// its rules, read.
var meanings = map[string][]sent{
	"-p 15001 -z 15006 -m REDIRECT -i * -b * -u 1000-2000": {outBy(999, 999, "pod:15001"), outBy(1000, 1, "peer:7000"), outBy(1500, 1, "peer:7000"),
		outBy(2000, 1, "peer:7000"), outBy(2001, 2001, "pod:15001"), outBy(3000, 1500, "peer:7000"), comesIn("8080", "pod:15006"),
		{uid: 1500, gid: 1, to: inside + "8080", land: "pod:15006"}},
	"-p 15001 -z 15006 -m REDIRECT -i * -b * -u 1337 -g 1000-2000": {outBy(1337, 1, "peer:7000"), outBy(3000, 1000, "peer:7000"), outBy(3000, 2000, "peer:7000"),
		outBy(3000, 2001, "pod:15001"), outBy(1500, 999, "pod:15001")},
	"-u 1337 -m REDIRECT -i * -b http,https": {comesIn("80", "pod:15006"), comesIn("443", "pod:15006"), comesIn("8080", "pod:8080"), appOut("pod:15001")},
	"-u 1337 -m REDIRECT -i * -b 80:90":      {comesIn("80", "pod:15006"), comesIn("443", "pod:443"), comesIn("22", "pod:22")},
	"-u 1337 -m REDIRECT -i * -b 90:":        {comesIn("80", "pod:80"), comesIn("443", "pod:15006"), comesIn("32000", "pod:15006"), comesIn("15008", "pod:15008")},
	"-u 1337 -m REDIRECT -i * -b , -x ,":     {comesIn("8080", "pod:8080"), appOut("pod:15001")},
	// The marks of both are one: what the proxy sends to its own pod is not captured as it comes in.
	"-u 1337 -m TPROXY -i * -b * -t 1338": {comesIn("8080", "pod:15006"), appOut("pod:15001"), onward(1338), {uid: 1337, gid: 1337, to: inside + "15008", land: "pod:15008"}},
	// Every packet has the mark: none is inbound, and each is delivered to this pod.
	"-u 1337 -m TPROXY -i * -b * -t 0": {comesIn("8080", "timeout"), appOut("error:Network is unreachable")},
	// The kernel picks a table that is empty: answers to the proxy's calls leave.
	"-u 1337 -m TPROXY -i * -b * -r 0": {comesIn("8080", "pod:15006"), appOut("pod:15001"),
		{uid: 1000, gid: 1000, mark: 1337, to: inside + "8080", land: "timeout"}},
	// The local table is looked up first, for every packet.
	"-u 1337 -m TPROXY -i * -b * -r 255":              {appOut("pod:80"), comesIn("8080", "timeout")},
	"-u 1337 -m TPROXY -i * -b * -r 100000":           {comesIn("8080", "pod:15006"), appOut("pod:15001"), onward(1337)},
	"-u 1337 -m tproxy -i * -b *":                     everyCapture,
	"-u 1337 -m REDIRECT -i * -b * -t x -r y":         everyCapture,
	"-u 1337 -p 0 -m REDIRECT -i * -b *":              {appOut("refused"), outBy(1337, 1337, "peer:7000"), comesIn("8080", "pod:15006")},
	"-u 1337 -p 15001-15003 -m REDIRECT -i * -b *":    everyCapture,
	"-u 1337 -m REDIRECT -i * -b * -c eth*":           everyCapture,
	"-u 1337 -m REDIRECT -i * -b * -c +":              {appOut("peer:7000"), comesIn("8080", "pod:8080")},
	"-u 1337 -m REDIRECT -i ::ffff:10.0.0.0/104 -b *": {appOut("peer:7000"), {uid: 1000, gid: 1000, to: "10.4.5.7:80", land: "peer:7000"}, comesIn("8080", "pod:15006")},
	"-u 1337, -m REDIRECT -i * -b *":                  everyCapture,
	"-u 1337 -m REDIRECT -i * -b 15001":               {comesIn("15001", "pod:15006"), comesIn("8080", "pod:8080"), appOut("pod:15001")},
	"-u 1337 -m REDIRECT -p 15006 -z 15006 -i * -b *": {appOut("pod:15006"), comesIn("8080", "pod:15006")},
	"-u 1337 -m REDIRECT -e 15006 -i * -b *":          {appOut("pod:15001"), comesIn("8080", "pod:15006"), comesIn("15008", "pod:15006")},
	"-u 1337 -m NONE -i * -b *":                       everyCapture,
	"-u root -m REDIRECT -i * -b *":                   {outBy(0, 1, "peer:7000"), outBy(1, 0, "peer:7000"), outBy(1337, 1337, "pod:15001"), comesIn("8080", "pod:15006")},
	"-u 1337 -m REDIRECT -i * -b * extra words":       everyCapture,
}

// accepted are the lists that the reference refuses and whose meaning is plain.
var accepted = map[string][]sent{
	"-u 1337 -m REDIRECT -i 10.4.5.6 -b *":   {appOut("peer:7000"), {uid: 1000, gid: 1000, to: "10.4.5.6:80", land: "pod:15001"}},
	"-u 1337 -m REDIRECT -i * -b 80-90":      {comesIn("80", "pod:15006"), comesIn("443", "pod:443")},
	"-u 1337 -m REDIRECT -i * -b * -o 80-90": {appOut("peer:7000"), comesIn("8080", "pod:15006")},
}

// derived are lists that the reference was not tried with: their meaning is read off its rules.
var derived = map[string][]sent{
	// A list of no port has the marks and their routing, and captures nothing that comes in.
	"-u 1337 -m TPROXY -i * -b ,": {comesIn("8080", "pod:8080"), appOut("pod:15001"), onward(1337)},
	"-u 1337 -m TPROXY -i * -b ''": {comesIn("8080", "pod:8080"), appOut("pod:15001"),
		{uid: 1000, gid: 1000, mark: 1337, to: inside + "8080", land: "timeout"}},
	// A loopback prefix is included, if only of IPv6: calls over lo by the proxy's group are looked at.
	"-u 1337 -m REDIRECT -i ::ffff:127.0.0.0/104 -b *": {appOut("peer:7000"), {uid: 1000, gid: 1000, to: inside + "8080", land: "pod:8080"},
		{uid: 1000, gid: 1337, to: inside + "8080", land: "pod:15006"}},
	"-u 1337 -m REDIRECT -i 10.0.0.0/8 -b *": {{uid: 1000, gid: 1337, to: inside + "8080", land: "pod:8080"}},
}

// TestIstioArguments walks the lists of arguments that the reference was tried
// with: what it takes is taken, with the fates that its rules give to telling
// packets; of what it refuses, only what has a plain meaning is taken.
func TestIstioArguments(t *testing.T) {
	t.Parallel()
	needUsers(t)
	ok, refused := argumentLines(t)
	if len(ok) != len(meanings) || len(refused) == 0 {
		t.Errorf("%d lists are taken and %d refused, and %d have a meaning here", len(ok), len(refused), len(meanings))
	}
	pod := capturedPod(t, scratch.Identity{UID: 1337, GID: 1337}, nil, "", "version")
	for _, line := range ok {
		t.Run(line, func(t *testing.T) {
			if meanings[line] == nil {
				t.Fatal("nothing is said of its meaning")
			}
			captured{t, pod.Pod, pod.root}.mean(line, meanings[line])
		})
	}
	for line, meaning := range derived {
		t.Run(line, func(t *testing.T) { captured{t, pod.Pod, pod.root}.mean(line, meaning) })
	}
	for _, line := range refused {
		t.Run(line, func(t *testing.T) {
			if meaning := accepted[line]; meaning != nil {
				captured{t, pod.Pod, pod.root}.mean(line, meaning)
				return
			}
			c := &cli{namespace: newNamespace(t), chroot: pod.root}
			c.istio(line).want(t, 2)
			if left := c.tables(); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

// mean applies arguments, wants the fates of probes, and the same state of the
// configuration that is printed for the arguments.
func (c captured) mean(line string, want []sent) {
	c.Helper()
	args := words(line)
	c.weir(nil, "", append([]string{"istio-init"}, args...)...)
	for _, s := range want {
		if p := s.probe(line); s.land == "timeout" {
			c.loses(p)
		} else {
			c.lands(p, s.land)
		}
	}
	config := c.weir(nil, "", append([]string{"istio-init", "--print-config"}, args...)...)
	c.weir(nil, config, "verify", "-f", "-")
	c.weir(nil, "", "istio-init", "--cleanup-only")
}

// loses wants a probe that gets no answer in a time in which others do.
func (c captured) loses(p scratch.Probe) {
	c.Helper()
	ns := c.Namespace
	if p.Namespace == "peer" {
		ns = c.Peer
	}
	got, err := p.Send(c.Context(), ns, lostPatience)
	if err != nil {
		c.Fatal(err)
	}
	if got.Land != "timeout" {
		c.Errorf("%s: it landed at %s, want no answer", p.ID, got)
	}
}

// lostPatience is longer than an answer takes on a machine that has time; on one
// that has none a probe that is answered late passes for a lost one, never the
// other way round.
const lostPatience = answerPatience / 20
