// SPDX-License-Identifier: Apache-2.0

//go:build linux

package integration

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weir-mesh/weir/internal/scratch"
	"github.com/weir-mesh/weir/proxy"
	"golang.org/x/sys/unix"
)

const (
	podsOfNode = 8
	kubeletID  = 900  // the user of the prober
	otherID    = 1001 // of another process on the host
	nodeMark   = 0x539

	tunnelPort = 15008
	namesPort  = 15053
)

// node is a host with pods on links of their own, and the world behind it. One
// proxy for all comes into every pod's namespace.
type node struct {
	*cli        // in the host's namespace
	host, world *scratch.Namespace
	pods        []*nodePod
	captures    *captures
}

type nodePod struct {
	*scratch.Namespace
	name   string
	uid    string
	v4, v6 netip.Addr
}

func (p *nodePod) addr(v6 bool) netip.Addr {
	if v6 {
		return p.v6
	}
	return p.v4
}

// captures are the listeners of the proxy that took connections.
type captures struct {
	mu   sync.Mutex
	list []string
}

func (c *captures) add(listener string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.list = append(c.list, listener)
}

func (c *captures) take() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := c.list
	c.list = nil
	return list
}

func newNode(t *testing.T) *node {
	t.Helper()
	needUsers(t)
	n := &node{cli: newCLI(t), captures: &captures{}}
	var err error
	if n.host, err = scratch.OpenNamespace(fmt.Sprintf("/proc/self/fd/%d", n.file.Fd())); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.host.Close() })
	n.world = n.space()
	n.forward()
	n.link(n.world, "wan", "203.0.113.1/24", "203.0.113.2/24", "2001:db8:ffff::1/64", "2001:db8:ffff::2/64")
	for i := range podsOfNode {
		p := &nodePod{Namespace: n.space(), name: fmt.Sprintf("pod%d", i), uid: fmt.Sprintf("00000000-0000-4000-8000-%012d", i),
			v4: netip.AddrFrom4([4]byte{10, 80, byte(i), 2}), v6: netip.MustParseAddr(fmt.Sprintf("fd80:0:0:%d::2", i))}
		// The node's proxy, which keeps a client's address, must not choose a port
		// that the client's own pod may choose.
		n.check(p.Sysctl("net/ipv4/ip_local_port_range", fmt.Sprintf("%d %d", 20000+1000*i, 20999+1000*i)))
		n.link(p.Namespace, p.name, fmt.Sprintf("10.80.%d.1/24", i), p.v4.String()+"/24", fmt.Sprintf("fd80:0:0:%d::1/64", i), p.v6.String()+"/64")
		n.pods = append(n.pods, p)
	}
	n.serve(n.world, scratch.Listeners{Name: "world", TCP: []uint16{appPort}, UDP: []uint16{53}})
	for _, p := range n.pods {
		n.serve(p.Namespace, scratch.Listeners{Name: p.name, Identity: scratch.Identity{UID: appID, GID: appID}, TCP: []uint16{appPort}})
	}
	n.meet()
	return n
}

func (n *node) check(err error) {
	n.Helper()
	if err != nil {
		n.Fatal(err)
	}
}

func (n *node) space() *scratch.Namespace {
	n.Helper()
	ns, err := scratch.NewNamespace()
	n.check(err)
	n.Cleanup(func() { ns.Close() })
	return ns
}

// forward makes the host a router.
func (n *node) forward() {
	n.Helper()
	for _, key := range []string{"net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding", "net/ipv6/conf/default/forwarding"} {
		n.check(n.host.Sysctl(key, "1"))
	}
}

// link joins a namespace to the host, which is its way to everywhere.
func (n *node) link(ns *scratch.Namespace, name, here4, there4, here6, there6 string) {
	n.Helper()
	n.check(scratch.Veth(n.host, name, ns, "eth0"))
	for _, end := range []struct {
		ns             *scratch.Namespace
		link           string
		prefix4, other string
	}{{n.host, name, here4, here6}, {ns, "eth0", there4, there6}} {
		n.check(errors.Join(
			end.ns.Sysctl("net/ipv6/conf/"+end.link+"/accept_dad", "0"),
			end.ns.Sysctl("net/ipv4/conf/"+end.link+"/rp_filter", "0"),
			end.ns.Sysctl("net/ipv4/conf/all/rp_filter", "0"),
			end.ns.AddAddress(end.link, netip.MustParsePrefix(end.prefix4)),
			end.ns.AddAddress(end.link, netip.MustParsePrefix(end.other)),
			end.ns.Up(end.link)))
	}
	for _, via := range []string{here4, here6} {
		gateway := netip.MustParsePrefix(via).Addr()
		n.check(ns.AddRoute(scratch.Route{Dst: netip.PrefixFrom(gateway, 0).Masked(), Via: gateway}))
	}
}

func (n *node) serve(ns *scratch.Namespace, l scratch.Listeners) {
	n.Helper()
	s, err := l.Serve(context.Background(), ns)
	n.check(err)
	n.Cleanup(func() { s.Close() })
}

// meet waits until packets pass on every link.
func (n *node) meet() {
	n.Helper()
	for _, v6 := range []bool{false, true} {
		for _, p := range n.pods {
			n.await(n.host, p.addr(v6))
		}
		n.await(n.host, n.worldAddr(v6))
	}
}

func (n *node) await(from *scratch.Namespace, to netip.Addr) {
	n.Helper()
	for end := time.Now().Add(eventPatience); ; time.Sleep(10 * time.Millisecond) {
		_, err := call(from, otherID, netip.AddrPortFrom(to, appPort))
		if err == nil {
			return
		}
		if time.Now().After(end) {
			n.Fatalf("no way to %s: %v", to, err)
		}
	}
}

func (n *node) worldAddr(v6 bool) netip.Addr {
	if v6 {
		return netip.MustParseAddr("2001:db8:ffff::2")
	}
	return netip.MustParseAddr("203.0.113.2")
}

// answer is whom a client reached, and as whom it was seen there.
type answer struct {
	Land string     `json:"land"`
	Peer netip.Addr `json:"peer"`
	Orig any        `json:"orig"`
}

// call connects from a namespace as a user and reads the answer.
func call(from *scratch.Namespace, uid uint32, to netip.AddrPort) (a answer, err error) {
	conn, err := dialAs(from, uid, uid, netip.Addr{}, to)
	if err != nil {
		return a, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(eventPatience)); err != nil {
		return a, err
	}
	return a, json.NewDecoder(conn).Decode(&a)
}

// proxies starts the node's proxy in each pod's namespace: sockets there that are
// marked, and connections onward with the client's own address.
func (n *node) proxies() {
	n.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for _, p := range n.pods {
		for _, port := range []uint16{uint16(outboundPort), uint16(inboundPort)} {
			n.proxy(ctx, &running, p, port)
		}
		n.serve(p.Namespace, scratch.Listeners{Name: p.name + "-proxy", Identity: scratch.Identity{Mark: nodeMark}, TCP: []uint16{tunnelPort, namesPort}, UDP: []uint16{namesPort}})
	}
	n.Cleanup(func() {
		cancel()
		running.Wait()
	})
}

func (n *node) proxy(ctx context.Context, running *sync.WaitGroup, p *nodePod, port uint16) {
	n.Helper()
	onward := proxy.Dialer{Mark: nodeMark, KeepClient: true}
	server := &proxy.Server{
		OnAccept: func(proxy.ConnInfo) { n.captures.add(fmt.Sprintf("%s:%d", p.name, port)) },
		Dial: func(ctx context.Context, c proxy.ConnInfo) (conn *net.TCPConn, err error) {
			err = p.Do(func() error {
				conn, err = onward.Dial(ctx, c)
				return err
			})
			return conn, err
		},
	}
	var ln *proxy.Listener
	n.check(p.Do(func() (err error) {
		ln, err = proxy.Listen(ctx, netip.AddrPortFrom(netip.IPv6Unspecified(), port), proxy.SocketOptions{Transparent: true, Mark: nodeMark})
		return err
	}))
	running.Go(func() { _ = server.Serve(ctx, ln) })
}

// everyPod runs weir ambient pod in all pods at once.
func (n *node) everyPod(verb string, more ...string) outcome {
	n.Helper()
	args := append([]string{"ambient", "pod", verb}, more...)
	for _, p := range n.pods {
		args = append(args, "--netns", p.Path())
	}
	return n.run(args...).want(n, 0)
}

func (n *node) hostPods(verb string, p *nodePod) {
	n.Helper()
	n.ok("ambient", "host", "pods", verb, "--pod", p.uid, p.v4.String(), p.v6.String())
}

// way is a connection, and what is to become of it.
type way struct {
	why      string
	from     *scratch.Namespace
	uid      uint32
	to       netip.AddrPort
	land     string
	seen     netip.Addr
	captured []string
}

func (n *node) walk(ways []way) {
	n.Helper()
	for _, w := range ways {
		n.captures.take()
		got, err := call(w.from, w.uid, w.to)
		if err != nil {
			n.Errorf("%s: to %s: %v (captured by %v)", w.why, w.to, err, n.captures.take())
			continue
		}
		if captured := n.captures.take(); got.Land != w.land || got.Peer != w.seen || !slices.Equal(captured, w.captured) {
			n.Errorf("%s: to %s: reached %s as %s by way of %v, want %s as %s by way of %v", w.why, w.to, got.Land, got.Peer, captured, w.land, w.seen, w.captured)
		}
	}
}

// ways are the paths through a node where every pod is enrolled. Probes are what
// the kubelet opens, or with others also what anyone on the host does.
func (n *node) ways(v6, others bool) []way {
	port := func(a netip.Addr) netip.AddrPort { return netip.AddrPortFrom(a, appPort) }
	a, b := n.pods[0], n.pods[5]
	probes := netip.MustParseAddr("169.254.7.127")
	host := netip.MustParseAddr("10.80.5.1")
	if v6 {
		probes, host = netip.MustParseAddr("fd16:9254:7127:1337:ffff:ffff:ffff:ffff"), netip.MustParseAddr("fd80:0:0:5::1")
	}
	out := []way{
		{"between pods, through both ends' proxies", a.Namespace, appID, port(b.addr(v6)), "pod5:8080", a.addr(v6), []string{"pod0:15001", "pod5:15006"}},
		{"in from outside", n.world, appID, port(b.addr(v6)), "pod5:8080", n.worldAddr(v6), []string{"pod5:15006"}},
		{"out to the world", a.Namespace, appID, port(n.worldAddr(v6)), "world:8080", a.addr(v6), []string{"pod0:15001"}},
		{"to oneself", a.Namespace, appID, port(a.addr(v6)), "pod0:8080", a.addr(v6), nil},
		{"to the tunnel", n.world, appID, netip.AddrPortFrom(b.addr(v6), tunnelPort), "pod5-proxy:15008", n.worldAddr(v6), nil},
		{"the kubelet's probe", n.host, kubeletID, port(b.addr(v6)), "pod5:8080", probes, nil},
	}
	if others {
		return append(out, way{"another process of the host", n.host, otherID, port(b.addr(v6)), "pod5:8080", probes, nil})
	}
	return append(out, way{"another process of the host", n.host, otherID, port(b.addr(v6)), "pod5:8080", host, []string{"pod5:15006"}})
}

// TestNode has pods of one node talk to each other, to the world and to the
// kubelet, through the node's proxy where they should, and without it where not.
func TestNode(t *testing.T) {
	n := newNode(t)
	n.proxies()
	n.everyPod("apply", "--v6", "--dns")
	n.everyPod("verify", "--v6", "--dns")
	families := map[string]bool{"IPv4": false, "IPv6": true}
	for _, tt := range []struct {
		why    string
		args   []string
		others bool
	}{
		{"local", nil, true},
		{"by user", []string{"--probe-uids", fmt.Sprint(kubeletID)}, false},
		{"where postrouting does not tell how a packet came in", []string{"--environment", write(t, "old.yaml", "ipv6: true\npostroutingInput: false\n")}, true},
	} {
		n.ok(append([]string{"ambient", "host", "apply", "--v6"}, tt.args...)...)
		for _, p := range n.pods {
			n.hostPods("add", p)
		}
		for name, v6 := range families {
			t.Run(tt.why+", "+name, func(t *testing.T) { n.as(t).walk(n.ways(v6, tt.others)) })
		}
	}
	t.Run("by cgroup", func(t *testing.T) { n.as(t).probeFromCgroup() })
	for name, v6 := range families {
		t.Run("names, "+name, func(t *testing.T) {
			for _, proto := range []string{"udp", "tcp"} {
				probe := scratch.Probe{ID: "names", Proto: proto, UID: appID, GID: appID, Dst: n.worldAddr(v6), DPort: 53}
				fate, err := probe.Send(t.Context(), n.pods[3].Namespace, eventPatience)
				if err != nil || fate.Land != "pod3-proxy:15053" {
					t.Errorf("a query over %s landed at %s, %v", proto, fate, err)
				}
			}
		})
	}
	t.Run("rounds", func(t *testing.T) { n.as(t).rounds() })
}

// as is the node for a subtest.
func (n *node) as(t *testing.T) *node {
	return &node{cli: n.with(func(c *cli) { s := *c.namespace; s.TB = t; c.namespace = &s }), host: n.host, world: n.world, pods: n.pods, captures: n.captures}
}

// probeFromCgroup probes from a process in a cgroup, which is then made anew: its
// path is the same, and it is another.
func (n *node) probeFromCgroup() {
	n.Helper()
	root := cgroupRoot(n)
	name := fmt.Sprintf("weir-test-%d", os.Getpid())
	path := root + "/" + name
	n.check(os.Mkdir(path, 0o755))
	n.Cleanup(func() { os.Remove(path) })
	n.ok("ambient", "host", "apply", "--v6", "--probe-cgroups", name)
	to := netip.AddrPortFrom(n.pods[5].v4, appPort)
	probe := func(inside bool) string {
		script := fmt.Sprintf(`exec 3<>/dev/tcp/%s/%d; read -r -d } answer <&3; echo "$answer"`, to.Addr(), to.Port())
		if inside {
			script = "echo $$ > " + path + "/cgroup.procs; " + script
		}
		return n.must("", "bash", "-c", script)
	}
	const known = `"peer":"169.254.7.127"`
	if got := probe(true); !strings.Contains(got, known) {
		n.Errorf("a probe from the cgroup was seen as %s", got)
	}
	if got := probe(false); strings.Contains(got, known) {
		n.Errorf("what another cgroup opened was seen as %s", got)
	}
	n.check(os.Remove(path))
	n.check(os.Mkdir(path, 0o755))
	if got := probe(true); strings.Contains(got, known) {
		n.Errorf("the rules know a cgroup that was made after them: %s", got)
	}
	n.run("ambient", "host", "verify", "--v6", "--probe-cgroups", name).want(n, 3)
	n.run("ambient", "host", "apply", "--v6", "--probe-cgroups", name).want(n, 0).prints(n, "updated: ")
	if got := probe(true); !strings.Contains(got, known) {
		n.Errorf("applied anew, a probe from the cgroup was seen as %s", got)
	}
	n.run("ambient", "host", "apply", "--probe-cgroups", "no/such").want(n, 2).says(n, `--probe-cgroups: "no/such" is not a cgroup v2 here`)
}

// cgroupRoot is where cgroups can be made.
func cgroupRoot(t testing.TB) string {
	t.Helper()
	mount := cgroupMount(t)
	if mount == "" || unix.Access(mount, unix.W_OK) != nil {
		t.Skip("there is no cgroup v2 that can be written")
	}
	return mount
}

// cgroupMount is where cgroup v2 is mounted, "" where it is not.
func cgroupMount(t testing.TB) string {
	t.Helper()
	for line := range strings.Lines(readFile(t, "/proc/self/mounts")) {
		if fields := strings.Fields(line); len(fields) > 2 && fields[2] == "cgroup2" {
			return fields[1]
		}
	}
	return ""
}

// rounds enrols and releases pods, a thousand times all together, and wants the
// rules to work as before and nothing left behind.
func (n *node) rounds() {
	const rounds = 1000 / podsOfNode
	for range rounds {
		n.everyPod("remove")
		n.everyPod("apply", "--v6", "--dns")
	}
	n.everyPod("verify", "--v6", "--dns")
	n.ok("ambient", "host", "apply", "--v6")
	for _, v6 := range []bool{false, true} {
		n.walk(n.ways(v6, true))
	}
	n.everyPod("remove")
	for _, p := range n.pods {
		n.hostPods("delete", p)
		inside := &namespace{TB: n.TB, file: openNamespace(n, p.Path())}
		if left := append(inside.tables(), inside.ours()...); len(left) > 0 {
			n.Errorf("%s: left behind: %v", p.name, left)
		}
	}
	if left := n.ok("ambient", "host", "pods", "list"); left != "" {
		n.Errorf("probes of no pod: %s", left)
	}
	n.ok("ambient", "host", "remove")
	if left := n.tables(); len(left) > 0 {
		n.Errorf("left on the host: %v", left)
	}
}

func openNamespace(t testing.TB, path string) *os.File {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}
