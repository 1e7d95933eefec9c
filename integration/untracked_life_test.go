// SPDX-License-Identifier: Apache-2.0

//go:build linux

package integration

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weir-mesh/weir/internal/scratch"
	"github.com/weir-mesh/weir/proxy"
	"golang.org/x/sys/unix"
)

// Connections to the hasty ports are relayed by a proxy that closes as soon as it has written.
const (
	worldPort, worldHasty = 80, 81
	appHasty              = 8081

	firstAppPort = 40000 // of those that the application calls from: none of the proxy's
	portsOfLife  = 8000
)

// lifeWay is one direction of connections of a family.
type lifeWay struct {
	name      string
	in        *scratch.Namespace
	from      netip.Addr
	firstPort uint16 // 0 where the kernel chooses
	to, hasty netip.AddrPort
	service   *lifeService
	asked     atomic.Uint32
}

// connectionLives are what connections go through. Each returns what went wrong.
var connectionLives = []struct {
	why  string
	live func(*lifeWay) error
}{
	{"the client closes first", func(w *lifeWay) error { return w.echo(0) }},
	{"the service closes first", func(w *lifeWay) error { return w.once(0) }},
	{"an upload is closed as soon as it is written", (*lifeWay).upload},
	{"a download is aborted", (*lifeWay).abort},
	{"half of it is closed, and the other half carries data after that", (*lifeWay).halfClosed},
	{"it is idle, kept alive by probes", (*lifeWay).idle},
	{"the client resets it", (*lifeWay).resetByClient},
	{"the service resets it", (*lifeWay).resetByService},
	{"its port is used again at once, while the proxy's end is in TIME_WAIT", (*lifeWay).again},
}

func (w *lifeWay) echo(wait time.Duration) error {
	c, err := w.ask("echo", false, 0)
	if err != nil {
		return err
	}
	defer c.Close()
	for range 2 {
		text := bytes.Repeat([]byte("x"), lifeText)
		if _, err := c.Write(text); err != nil {
			return err
		}
		got := make([]byte, len(text))
		if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, text) {
			return fmt.Errorf("%w, or other bytes", err)
		}
		time.Sleep(wait) // while which nothing is sent
	}
	c.Close()
	end, err := w.ended(c)
	if err == nil && (end.err != nil || end.bytes != 2*lifeText) {
		err = fmt.Errorf("the service got %d bytes, %w", end.bytes, end.err)
	}
	return err
}

func (w *lifeWay) idle() error {
	return w.echo(1500 * time.Millisecond)
}

func (w *lifeWay) once(port uint16) error {
	c, err := w.ask("once", false, port)
	if err != nil {
		return err
	}
	defer c.Close()
	if got, err := io.ReadAll(c); err != nil || len(got) != lifeText {
		return fmt.Errorf("%d bytes of %d: %w", len(got), lifeText, err)
	}
	c.Close()
	_, err = w.ended(c)
	return err
}

func (w *lifeWay) upload() error {
	c, err := w.ask("count", true, 0)
	if err != nil {
		return err
	}
	n, err := c.Write(make([]byte, lifeBytes))
	if err := errors.Join(err, c.Close()); err != nil {
		return fmt.Errorf("after %d bytes: %w", n, err)
	}
	end, err := w.ended(c)
	if err == nil && (end.err != nil || end.bytes != lifeBytes) {
		err = fmt.Errorf("%d bytes of %d arrived: %w", end.bytes, lifeBytes, end.err)
	}
	return err
}

func (w *lifeWay) abort() error {
	c, err := w.ask("flood", false, 0)
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := io.ReadFull(c, make([]byte, lifeText)); err != nil {
		return err
	}
	c.Close() // with much unread
	end, err := w.ended(c)
	if err == nil && !gone(end.err) {
		err = fmt.Errorf("the service was told %w", end.err)
	}
	return err
}

func gone(err error) bool { return errors.Is(err, unix.ECONNRESET) || errors.Is(err, unix.EPIPE) }

func (w *lifeWay) halfClosed() error {
	c, err := w.ask("late", false, 0)
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := c.Write(make([]byte, lifeText)); err != nil {
		return err
	}
	if err := c.CloseWrite(); err != nil {
		return err
	}
	if got, err := io.ReadAll(c); err != nil || len(got) != 100*lifeText {
		return fmt.Errorf("%d bytes of %d: %w", len(got), 100*lifeText, err)
	}
	end, err := w.ended(c)
	if err == nil && (end.err != nil || end.bytes != lifeText) {
		err = fmt.Errorf("the service got %d bytes: %w", end.bytes, end.err)
	}
	return err
}

func (w *lifeWay) resetByClient() error {
	c, err := w.ask("told", false, 0)
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		return err
	}
	if err := errors.Join(c.SetLinger(0), c.Close()); err != nil {
		return err
	}
	end, err := w.ended(c)
	if err == nil && !gone(end.err) {
		err = fmt.Errorf("the service was told %w", end.err)
	}
	return err
}

func (w *lifeWay) resetByService() error {
	c, err := w.ask("reset", false, 0)
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := io.ReadAll(c); !gone(err) {
		return fmt.Errorf("the client was told %w", err)
	}
	return nil
}

// again opens connections from one port, one as soon as the last is over. The proxy's end of the last
// one waits in TIME_WAIT then, and takes the new one.
func (w *lifeWay) again() error {
	port := uint16(firstAppPort + portsOfLife + 1)
	until := time.Now().Add(lifeTimeout)
	for i := 0; i < 20; {
		err := w.once(port)
		switch {
		case err == nil:
			i++
		case errors.Is(err, unix.EADDRNOTAVAIL) && time.Now().Before(until):
			time.Sleep(time.Millisecond) // the client's end of the last one waits for the end of its own
		default:
			return fmt.Errorf("connection %d: %w", i, err)
		}
	}
	return nil
}

// lifePod is a pod with everything that connections go through, and what counts the packets that go
// where they must not.
type lifePod struct {
	*realPod
	ways []*lifeWay
}

func newLifePod(t *testing.T) *lifePod {
	p := &lifePod{realPod: newRealPod(t)}
	p.untracked(untrackedConfig)
	world := serveLife(t, p.far, 0, worldPort, worldHasty)
	application := serveLife(t, p.pod, appID, appPort, appHasty)
	keeping := []netip.Addr{families[0].clients[1], families[1].clients[1]} // clients whose addresses the proxy keeps
	p.lifeRelay(15001, worldHasty, func(proxy.ConnInfo) proxy.Dialer { return proxy.Dialer{Mark: untrackedMark} })
	p.lifeRelay(15006, appHasty, func(c proxy.ConnInfo) proxy.Dialer {
		if slices.Contains(keeping, c.Client.Addr()) {
			return proxy.Dialer{Mark: untrackedMark, KeepClient: true}
		}
		return proxy.Dialer{Mark: untrackedMark, Source: []netip.Addr{families[0].pass, families[1].pass}}
	})
	for i, f := range families {
		somewhere := func(port uint16) netip.AddrPort { return f.somewhere(i, port) }
		inside := func(port uint16) netip.AddrPort { return netip.AddrPortFrom(f.pod.Addr(), port) }
		p.ways = append(p.ways,
			&lifeWay{name: "outbound-" + f.name, in: p.pod, from: f.pod.Addr(), firstPort: firstAppPort, to: somewhere(worldPort), hasty: somewhere(worldHasty), service: world},
			&lifeWay{name: "inbound-" + f.name, in: p.far, from: f.clients[0], to: inside(appPort), hasty: inside(appHasty), service: application},
			&lifeWay{name: "inbound-keeping-" + f.name, in: p.far, from: f.clients[1], to: inside(appPort), hasty: inside(appHasty), service: application})
	}
	p.watch()
	return p
}

// watch counts what the application sends outside past the proxy, and what the proxy sends that is
// captured.
func (p *lifePod) watch() {
	p.Helper()
	outside := fmt.Sprintf(`table inet watch { counter past { }; chain c { type filter hook prerouting priority -400;
iif far0 tcp sport %d-%d counter name past; iif far0 ip saddr 127.0.0.0/8 counter name past; iif far0 tcp sport { %d, %d } tcp dport 20000-%d counter name past; }; }`,
		firstAppPort, firstAppPort+portsOfLife+1, appPort, appHasty, lastPodPort)
	inside := fmt.Sprintf(`table inet watch { counter looped { }; chain c { type filter hook prerouting priority -400;
iif lo tcp sport 20000-%d tcp dport { %d, %d } counter name looped; }; }`, lastPodPort, worldPort, worldHasty)
	p.nftIn(p.far, outside)
	p.nftIn(p.pod, inside)
}

func (p *realPod) nftIn(ns *scratch.Namespace, script string) string {
	p.Helper()
	cmd := exec.Command("nft", "-f", "-")
	cmd.Stdin = strings.NewReader(script)
	var out []byte
	err := ns.Do(func() (err error) {
		out, err = cmd.CombinedOutput()
		return err
	})
	if err != nil {
		p.Fatalf("nft: %v: %s: %s", err, script, out)
	}
	return string(out)
}

var packetsCounted = regexp.MustCompile(`packets (\d+)`)

// strayed is how many packets went where they must not.
func (p *lifePod) strayed() map[string]string {
	p.Helper()
	out := map[string]string{}
	for name, ns := range map[string]*scratch.Namespace{"past": p.far, "looped": p.pod} {
		m := packetsCounted.FindStringSubmatch(p.nftIn(ns, "list counter inet watch "+name))
		if m == nil {
			p.Fatalf("no counter %s", name)
		}
		if m[1] != "0" {
			out[name] = m[1]
		}
	}
	return out
}

// live has every way live every life, many at once, and wants nothing to be left of them.
func (p *lifePod) live(t *testing.T, rounds int) {
	t.Helper()
	var all sync.WaitGroup
	for _, w := range p.ways {
		for _, l := range connectionLives {
			all.Go(func() {
				for range rounds {
					if err := l.live(w); err != nil {
						t.Errorf("%s: %s: %v", w.name, l.why, err)
						return
					}
				}
			})
		}
	}
	all.Wait()
	p.settled(t)
	if strayed := p.strayed(); len(strayed) > 0 {
		t.Errorf("packets went past the proxy or back to it: %v", strayed)
	}
	p.untrackedEntries(t)
}

// settled waits until no connection is between open and closed.
func (p *lifePod) settled(t *testing.T) {
	t.Helper()
	var left map[string]int
	for until := time.Now().Add(lifeTimeout); time.Now().Before(until); time.Sleep(10 * time.Millisecond) {
		left = map[string]int{}
		for name, ns := range map[string]*scratch.Namespace{"pod": p.pod, "far": p.far} {
			maps.Copy(left, tcpStates(t, name, ns))
		}
		if len(left) == 0 {
			return
		}
	}
	t.Errorf("connections that never end: %v", left)
}

// tcpStates counts connections that are neither listeners nor in TIME_WAIT, by state as the kernel
// numbers them (include/net/tcp_states.h): 09 is LAST_ACK.
func tcpStates(t *testing.T, name string, ns *scratch.Namespace) map[string]int {
	t.Helper()
	left := map[string]int{}
	for _, file := range []string{"tcp", "tcp6"} {
		var text []byte
		err := ns.Do(func() (err error) {
			text, err = os.ReadFile("/proc/thread-self/net/" + file)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.SplitSeq(string(text), "\n") {
			fields := strings.Fields(line)
			if len(fields) > 3 && fields[0] != "sl" && fields[3] != "0A" && fields[3] != "06" {
				left[name+" "+fields[1]+" "+fields[2]+" state "+fields[3]]++
			}
		}
	}
	return left
}

// settingsOfLife are settings that a namespace may have, and by which capture must lose nothing.
var settingsOfLife = []struct {
	why   string
	short bool // in the short run too
	set   map[string]string
}{
	{"as they are", true, nil},
	{"every SYN is answered with a cookie", true, map[string]string{"net/ipv4/tcp_syncookies": "2"}},
	{"no SYN is answered with a cookie", false, map[string]string{"net/ipv4/tcp_syncookies": "0"}},
	{"sources are checked strictly", false, map[string]string{"net/ipv4/conf/all/rp_filter": "1", "net/ipv4/conf/eth0/rp_filter": "1", "net/ipv4/conf/lo/rp_filter": "1"}},
	{"sources are checked loosely", false, map[string]string{"net/ipv4/conf/all/rp_filter": "2"}},
	{"accepted sockets inherit marks", false, map[string]string{"net/ipv4/tcp_fwmark_accept": "1"}},
	{"the kernel's answers inherit marks", false, map[string]string{"net/ipv4/fwmark_reflect": "1", "net/ipv6/fwmark_reflect": "1"}},
	{"no early demultiplexing", false, map[string]string{"net/ipv4/ip_early_demux": "0", "net/ipv4/tcp_early_demux": "0"}},
	{"loopback addresses are routed", false, map[string]string{"net/ipv4/conf/all/route_localnet": "1"}},
	{"own addresses are accepted as sources", false, map[string]string{"net/ipv4/conf/all/accept_local": "1"}},
	{"ports in TIME_WAIT are used again", false, map[string]string{"net/ipv4/tcp_tw_reuse": "1"}},
	{"any address may be bound", false, map[string]string{"net/ipv4/ip_nonlocal_bind": "1", "net/ipv6/ip_nonlocal_bind": "1"}},
	{"listeners span VRFs", false, map[string]string{"net/ipv4/tcp_l3mdev_accept": "1"}},
	{"the pod forwards", false, map[string]string{"net/ipv4/ip_forward": "1", "net/ipv6/conf/all/forwarding": "1"}},
	{"no timestamps", false, map[string]string{"net/ipv4/tcp_timestamps": "0"}},
	{"all that a pod may set at once", true, map[string]string{"net/ipv4/tcp_syncookies": "2", "net/ipv4/tcp_fwmark_accept": "1", "net/ipv4/fwmark_reflect": "1",
		"net/ipv6/fwmark_reflect": "1", "net/ipv4/conf/all/rp_filter": "1", "net/ipv4/conf/all/route_localnet": "1", "net/ipv4/tcp_tw_reuse": "1", "net/ipv4/tcp_early_demux": "0"}},
}

// TestUntrackedLife has connections live and die in every way there is, captured both ways without
// connection tracking: no byte is lost, no connection stays half dead, and no packet goes past the
// proxy or back to it, whatever the namespace's settings are.
func TestUntrackedLife(t *testing.T) {
	rounds := howOften(1, 3)
	p := newLifePod(t)
	for _, s := range settingsOfLife {
		if !soak && (!s.short || testing.Short() && s.set != nil) {
			continue
		}
		t.Run(s.why, func(t *testing.T) {
			former := map[string]string{}
			for name, value := range s.set {
				former[name] = strings.TrimSpace(p.sysctl(name))
				if err := p.pod.Sysctl(name, value); err != nil {
					t.Fatal(err)
				}
			}
			p.live(t, rounds)
			for name, value := range former {
				if err := p.pod.Sysctl(name, value); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func (p *lifePod) sysctl(name string) (value string) {
	p.Helper()
	err := p.pod.Do(func() error {
		text, err := os.ReadFile("/proc/sys/" + name)
		value = string(text)
		return err
	})
	if err != nil {
		p.Fatal(err)
	}
	return value
}
