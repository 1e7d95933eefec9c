// SPDX-License-Identifier: Apache-2.0

//go:build linux

package integration

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/weir-mesh/weir/internal/lab"
	"github.com/weir-mesh/weir/internal/scratch"
	"golang.org/x/sys/unix"
)

// hostCLI is the program in a namespace whose probes are told apart.
func hostCLI(t *testing.T) *cli {
	t.Helper()
	c := newCLI(t)
	c.ok("ambient", "host", "--v6")
	return c
}

func (c *cli) pods(args ...string) outcome {
	c.Helper()
	return c.run(append([]string{"ambient", "host", "pods"}, args...)...)
}

// listed are the lines of the probe set.
func (c *cli) listed() string {
	c.Helper()
	return c.pods("list").want(c, 0).out
}

// TestProbeSet: an address belongs to the pod that was given it last.
func TestProbeSet(t *testing.T) {
	t.Parallel()
	c := hostCLI(t)
	for _, step := range []struct {
		why   string
		args  string
		stdin string
		says  string
		list  string
	}{
		{"a pod has addresses of both families", "add --pod a 10.0.0.1 fd00::1", "", "2 added, 0 moved, 0 deleted", "a 10.0.0.1 fd00::1\n"},
		{"adding them again changes nothing", "add --pod a fd00::1 10.0.0.1", "", "0 added, 0 moved, 0 deleted", "a 10.0.0.1 fd00::1\n"},
		{"an address moves to its new pod", "add 10.0.0.1 10.0.0.2 --pod b", "", "1 added, 1 moved, 0 deleted", "a fd00::1\nb 10.0.0.1 10.0.0.2\n"},
		{"a late delete by the former pod does not take it away", "delete --pod a 10.0.0.1 fd00::1", "", "0 added, 0 moved, 1 deleted", "b 10.0.0.1 10.0.0.2\n"},
		{"what is absent need not be deleted", "delete --pod a 10.0.0.9", "", "0 added, 0 moved, 0 deleted", "b 10.0.0.1 10.0.0.2\n"},
		{"a file has all", "sync -f -", "# who is here\nc 10.0.0.2 fd00::2\n\nd 10.0.0.3 # new\n", "2 added, 1 moved, 1 deleted", "c 10.0.0.2 fd00::2\nd 10.0.0.3\n"},
		{"what list prints is what sync reads", "sync --file -", "c 10.0.0.2 fd00::2\nd 10.0.0.3\n", "0 added, 0 moved, 0 deleted", "c 10.0.0.2 fd00::2\nd 10.0.0.3\n"},
		{"a line may be long", "sync -f -", "c 10.0.0.2 fd00::2" + strings.Repeat(" ", 100_000) + "\nd 10.0.0.3\n", "0 added, 0 moved, 0 deleted", "c 10.0.0.2 fd00::2\nd 10.0.0.3\n"},
		{"an empty file has none", "sync -f -", "", "0 added, 0 moved, 3 deleted", ""},
	} {
		c.feed(step.stdin, append([]string{"ambient", "host", "pods"}, strings.Fields(step.args)...)...).want(t, 0).prints(t, step.says)
		if got := c.listed(); got != step.list {
			t.Errorf("%s: listed are\n%swant\n%s", step.why, got, step.list)
		}
	}
}

// TestProbeSetStays: what an apply makes anew is never the pods.
func TestProbeSetStays(t *testing.T) {
	t.Parallel()
	c := hostCLI(t)
	c.pods("add", "--pod", "a", "10.0.0.1", "fd00::1").want(t, 0)
	before := c.shown().Written
	for _, how := range []struct{ args, outcome string }{
		{"--v6", "unchanged"}, {"--v6 --probe-uids 0", "replaced"}, {"--v6 --probe-uids 0,1", "updated"}, {"--v6", "replaced"},
	} {
		c.run(append([]string{"ambient", "host", "apply"}, strings.Fields(how.args)...)...).want(t, 0).prints(t, how.outcome+": ")
		if got := c.listed(); got != "a 10.0.0.1 fd00::1\n" {
			t.Errorf("after %s there are %q", how.args, got)
		}
	}
	if s := c.shown(); s.Drifted || s.Written != before {
		t.Errorf("pods are no drift, and not in the tag: %s, before %s", s.Written, before)
	}
	c.run("ambient", "host", "apply", "--v6=false").want(t, 0)
	c.pods("add", "--pod", "b", "fd00::2").want(t, 0)
	c.run("ambient", "host", "apply", "--v6").want(t, 0)
	if got := c.listed(); got != "a 10.0.0.1 fd00::1\nb fd00::2\n" {
		t.Errorf("after a time without IPv6 there are %q", got)
	}
	c.ok("ambient", "host", "remove")
	c.pods("add", "--pod", "b", "10.0.0.2").want(t, 1).says(t, "there is no probe set (weir ambient host apply makes it)")
	c.pods("delete", "--pod", "b", "10.0.0.2").want(t, 0)
}

// TestProbeSetTogether adds, moves and deletes side by side, while the rules are
// made anew: nothing is lost.
func TestProbeSetTogether(t *testing.T) {
	t.Parallel()
	const pods = 24
	c := hostCLI(t)
	address := func(i int) string { return fmt.Sprintf("10.0.0.%d", i) }
	var file, want strings.Builder
	for i := range pods {
		fmt.Fprintf(&file, "old%02d %s\n", i, address(i))
		if i%3 == 2 {
			fmt.Fprintf(&want, "new%02d %s 10.0.1.%d\n", i, address(i), i)
		}
	}
	for i := range pods {
		if i%3 == 0 {
			fmt.Fprintf(&want, "old%02d %s\n", i, address(i))
		}
	}
	c.feed(file.String(), "ambient", "host", "pods", "sync", "-f", "-").want(t, 0)
	var all sync.WaitGroup
	for i := range pods {
		all.Go(func() {
			old, now := fmt.Sprintf("old%02d", i), fmt.Sprintf("new%02d", i)
			switch i % 3 {
			case 1:
				c.pods("delete", "--pod", old, address(i)).want(t, 0)
			case 2:
				c.pods("add", "--pod", now, address(i), fmt.Sprintf("10.0.1.%d", i)).want(t, 0)
				c.pods("delete", "--pod", old, address(i)).want(t, 0)
			}
		})
	}
	all.Go(func() {
		for i := range 6 {
			c.ok("ambient", "host", "apply", "--v6", "--probe-uids", fmt.Sprint(i))
			c.ok("ambient", "host", "apply", "--v6")
		}
	})
	all.Wait()
	if got := c.listed(); got != want.String() {
		t.Errorf("listed are\n%swant\n%s", got, &want)
	}
	c.ok("ambient", "host", "verify", "--v6")
}

// TestWrongPods: bad input is told whole, with its places, and changes nothing.
func TestWrongPods(t *testing.T) {
	t.Parallel()
	c := hostCLI(t)
	c.pods("add", "--pod", "a", "10.0.0.1").want(t, 0)
	for _, tt := range []struct{ args, stdin, says string }{
		{"add 10.0.0.2", "", "--pod: the pod's UID is missing"},
		{"add --pod a", "", "no address is given"},
		{"add --pod a 10.0.0.0/8 ::ffff:10.0.0.1 ::1", "", "weir: \"10.0.0.0/8\" is not an address (want 192.0.2.1 or 2001:db8::1)\n" +
			"\"::ffff:10.0.0.1\" is an IPv4-mapped address (write it as IPv4)\n\"::1\" is not a pod's address\n"},
		{"delete --pod= 10.0.0.1", "", `--pod: "" is not a UID`},
		{"add --pod a#1 10.0.0.2", "", `--pod: "a#1" is not a UID (want 1-128 bytes without blanks, quotes and #)`},
		{"sync", "", "--file is missing"},
		{"sync -f /no/such", "", "--file: open /no/such: no such file or directory"},
		{"sync -f -", "a 10.0.0.1\nb 10.0.0.1 x\n\"c\" fd00::1\n", "weir: -:2: 10.0.0.1 is the address of pod a too\n-:2: \"x\" is not an address (want 192.0.2.1 or 2001:db8::1)\n-:3: \"\\\"c\\\"\" is not a UID"},
		{"list now", "", `unexpected argument "now" of weir ambient host pods list (see weir help ambient host pods list)`},
		{"ad --pod a 10.0.0.1", "", `unknown command "ad" of weir ambient host pods (did you mean add?)`},
		{"", "", "ambient host pods wants one of: add, delete, sync, list"},
	} {
		c.feed(tt.stdin, append([]string{"ambient", "host", "pods"}, strings.Fields(tt.args)...)...).want(t, 2).says(t, tt.says)
	}
	if got := c.listed(); got != "a 10.0.0.1\n" {
		t.Errorf("listed are %q", got)
	}
}

// TestProbeSetIsFull: a set holds 131,071 addresses, and one more changes nothing.
func TestProbeSetIsFull(t *testing.T) {
	t.Parallel()
	c := hostCLI(t)
	c.pods("add", "--pod", "a", "10.0.0.1").want(t, 0)
	var file strings.Builder
	for i := range 131_072 {
		fmt.Fprintf(&file, "b 10.%d.%d.%d\n", 1+i>>16, i>>8&255, i&255)
	}
	c.feed(file.String(), "ambient", "host", "pods", "sync", "-f", "-").want(t, 1).says(t, "set probes_ipv4: too many open files in system (the set is full)")
	if got := c.listed(); got != "a 10.0.0.1\n" {
		t.Errorf("listed are %q", got)
	}
}

// TestShortFlags: they stand for keys, and for one side's alone.
func TestShortFlags(t *testing.T) {
	t.Parallel()
	c := newCLI(t)
	for _, tt := range []struct{ args, says string }{
		{"pod apply --v6 --ipv6 disabled", "--v6 and --ipv6 are about one key (want one of them)"},
		{"pod plan --mode sidecar", `--mode: "sidecar" is not what weir ambient pod plan is about (want ambient-pod)`},
		{"pod --virt eth/0", `--virt: "eth/0" is not an interface name`},
		{"host --dns", "unknown flag --dns of weir ambient host apply"},
		{"host --probe-uids 0 --probes-from local", "--probe-uids: is used only with probes.from: uids"},
		{"hots", `unknown command "hots" of weir ambient (did you mean host?)`},
	} {
		c.run(append([]string{"ambient"}, strings.Fields(tt.args)...)...).want(t, 2).says(t, tt.says)
	}
	file := write(t, "pod.yaml", "version: 1\nmode: ambient-pod\n")
	c.run("ambient", "host", "--config", file).want(t, 2).says(t, file+`:2:7: mode: "ambient-pod" is not what weir ambient host apply is about (want ambient-host)`)
	c.run("ambient", "pod", "plan", "--dns", "--ingress", "--virt", "eth1", "--virt", "tap*").want(t, 0).
		prints(t, `"eth1"`, `"tap*"`, "redirect to :15053", "redirect to :15001")
	if tables := c.tables(); len(tables) > 0 {
		t.Errorf("there are %v", tables)
	}
}

// TestExclusionsOfAPodChangeNoRule: from the first one on, where the key was
// written.
func TestExclusionsOfAPodChangeNoRule(t *testing.T) {
	t.Parallel()
	c := newCLI(t)
	none := []string{"--v6", "--dns", "--inbound-exclude-ports=", "--outbound-exclude-ports=", "--outbound-exclude-cidrs=",
		"--outbound-exclude-uids=", "--outbound-exclude-gids=", "--interfaces-exclude="}
	some := []string{"--v6", "--dns", "--inbound-exclude-ports=22", "--outbound-exclude-ports=25,80-90", "--outbound-exclude-cidrs=10.0.0.0/8,fd00::/8",
		"--outbound-exclude-uids=1", "--outbound-exclude-gids=2", "--interfaces-exclude=eth1,veth*"}
	handles := func() []string {
		var rules []string
		for line := range strings.Lines(c.nft("list table inet " + tableName)) {
			if strings.Contains(line, "# handle") {
				rules = append(rules, line)
			}
		}
		return rules
	}
	c.run(append([]string{"ambient"}, none...)...).want(t, 0).prints(t, "created: ")
	before := handles()
	c.run(append([]string{"ambient"}, some...)...).want(t, 0).prints(t, "updated: ")
	c.run(append([]string{"ambient", "verify"}, some...)...).want(t, 0)
	c.run(append([]string{"ambient"}, none...)...).want(t, 0).prints(t, "updated: ")
	after := slices.DeleteFunc(handles(), func(l string) bool { return strings.Contains(l, "set tag ") })
	before = slices.DeleteFunc(before, func(l string) bool { return strings.Contains(l, "set tag ") })
	if !slices.Equal(before, after) {
		t.Errorf("rules were made anew:\n%s", changed(strings.Join(before, ""), strings.Join(after, "")))
	}
}

// TestExclusionsOfAPod sends what is excluded, each in its own way, and what is
// not.
func TestExclusionsOfAPod(t *testing.T) {
	t.Parallel()
	needUsers(t)
	proxy := scratch.Identity{Mark: 0x539}
	pod, err := lab.NewPod(t.Context(), proxy)
	if err != nil {
		t.Fatal(err)
	}
	defer pod.Close()
	weir := &cli{chroot: podRoot(t)}
	cmd, _, errs := weir.command("", "ambient", "--v6", "--dns", "--outbound-exclude-ports", "22,53", "--outbound-exclude-cidrs", "9.9.0.0/16,2001:db8:99::/48",
		"--outbound-exclude-uids", "3", "--outbound-exclude-gids", "888", "--inbound-exclude-ports", "4000", "--interfaces-exclude", "nic*", "--virt", "eth1")
	if err := pod.Do(cmd.Run); err != nil {
		t.Fatalf("%v\n%s", err, errs)
	}
	var probes []scratch.Probe
	want := map[string]string{}
	add := func(why, namespace, proto, to string, uid, gid uint32, land string) {
		dst := netip.MustParseAddrPort(to)
		probes = append(probes, scratch.Probe{ID: why, Namespace: namespace, Proto: proto, UID: uid, GID: gid, Dst: dst.Addr(), DPort: dst.Port(), SPort: uint16(21000 + len(probes))})
		want[why] = land
	}
	for family, far := range map[string]struct{ peer, excluded, pod, nic, behind string }{
		"IPv4": {"198.18.0.1", "9.9.9.9", "198.18.0.2", "198.18.2.2", "10.4.5.6"},
		"IPv6": {"[2001:db8:18::1]", "[2001:db8:99::9]", "[2001:db8:18::2]", "[2001:db8:20::2]", "[2001:db8:99::9]"},
	} {
		add(family+": out", "pod", "tcp", far.peer+":80", 1000, 1000, "pod:15001")
		add(family+": out, a port", "pod", "tcp", far.peer+":22", 1000, 1000, "peer:7000")
		add(family+": out, a query", "pod", "udp", far.peer+":53", 1000, 1000, "peer:7000")
		add(family+": out, a destination", "pod", "tcp", far.excluded+":80", 1000, 1000, "peer:7000")
		add(family+": out, a user", "pod", "tcp", far.peer+":80", 3, 1000, "peer:7000")
		add(family+": out, a group", "pod", "tcp", far.peer+":80", 1000, 888, "peer:7000")
		add(family+": in", "peer", "tcp", far.pod+":8080", 1000, 1000, "pod:15006")
		add(family+": in, a port", "peer", "tcp", far.pod+":4000", 1000, 1000, "pod:4000")
		add(family+": in, an interface", "peer", "tcp", far.nic+":8080", 1000, 1000, "pod:8080")
	}
	add("a virtual machine, out", "peer", "tcp", "10.4.5.6:80", 1000, 1000, "pod:15001")
	add("a virtual machine, out, a port", "peer", "tcp", "10.4.5.6:22", 1000, 1000, "timeout")
	add("a virtual machine, out, a destination", "peer", "tcp", "9.9.9.9:80", 1000, 1000, "timeout")
	got, err := lab.RunProbes(t.Context(), pod, probes)
	if err != nil {
		t.Fatal(err)
	}
	for why, land := range want {
		if got[why].Land != land {
			t.Errorf("%s: landed at %s, want %s", why, got[why], land)
		}
	}
}

// manyNamespaces are links to so many network namespaces in a folder.
func manyNamespaces(t *testing.T, n int) (folder string, spaces []*namespace) {
	t.Helper()
	folder = sharedDir(t)
	for i := range n {
		ns := newNamespace(t)
		spaces = append(spaces, ns)
		link(t, fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), ns.file.Fd()), filepath.Join(folder, fmt.Sprintf("pod%03d", i)))
	}
	return folder, spaces
}

func link(t *testing.T, to, path string) {
	t.Helper()
	if err := os.Symlink(to, path); err != nil {
		t.Fatal(err)
	}
}

// TestManyNamespaces enrols, verifies and releases 200 pods, with few descriptors.
func TestManyNamespaces(t *testing.T) {
	c := newCLI(t)
	needUsers(t)
	const pods = 200
	folder, spaces := manyNamespaces(t, pods)
	few := func(verb string) outcome {
		line := fmt.Sprintf("ulimit -n 96; exec %s ambient pod %s --v6 --dns --netns '%s/pod*'", c.program, verb, folder)
		out, err := exec.Command("sh", "-c", line).CombinedOutput()
		o := outcome{args: []string{line}, out: string(out)}
		if err != nil {
			t.Fatalf("%s: %v", o, err)
		}
		return o
	}
	few("apply").prints(t, "200 network namespaces: 200 created\n")
	few("apply").prints(t, "200 network namespaces: 200 unchanged\n")
	spaces[7].nft("flush chain inet weir output")
	o := c.run("ambient", "pod", "verify", "--v6", "--dns", "--netns", folder+"/*").want(t, 3).prints(t, "200 network namespaces: 199 clean, 1 differing\n")
	for line := range strings.Lines(strings.TrimSuffix(o.out, "200 network namespaces: 199 clean, 1 differing\n")) {
		if !strings.HasPrefix(line, filepath.Join(folder, "pod007")+": ") {
			t.Errorf("%q is about another namespace", line)
		}
	}
	few("apply").prints(t, "200 network namespaces: 199 unchanged, 1 replaced\n")
	few("verify").prints(t, "200 network namespaces: 200 clean\n")
	c.run("ambient", "pod", "plan", "--v6", "--exit-code", "--netns", folder+"/*").want(t, 3)
	c.run("ambient", "pod", "plan", "--v6", "--dns", "--exit-code", "--netns", folder+"/*").want(t, 0)
	few("remove").prints(t, "200 network namespaces: 200 removed\n")
	for _, ns := range []*namespace{spaces[0], spaces[7], spaces[pods-1]} {
		if left := append(ns.tables(), ns.ours()...); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	}
}

// TestNamespacesThatFail: each has its line, and touches no other.
func TestNamespacesThatFail(t *testing.T) {
	t.Parallel()
	needUsers(t)
	c := newCLI(t)
	folder, spaces := manyNamespaces(t, 4)
	link(t, "/proc/self/fd/no-longer", filepath.Join(folder, "vanished"))
	if err := os.WriteFile(filepath.Join(folder, "file"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(filepath.Join(folder, "fifo"), 0o644); err != nil {
		t.Fatal(err)
	}
	down := newNamespace(t)
	down.ip("link set lo down")
	link(t, fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), down.file.Fd()), filepath.Join(folder, "down"))
	link(t, "pod001", filepath.Join(folder, "twice"))
	mapped := mappedNamespace(t)
	link(t, mapped, filepath.Join(folder, "mapped"))

	at := func(name string) string { return filepath.Join(folder, name) + ": " }
	o := c.run("ambient", "pod", "apply", "--netns", folder+"/*", "--netns", "nosuch").want(t, 1).
		prints(t, "10 network namespaces: 5 created, 5 failed\n").
		says(t, at("vanished")+"--netns: there is no such namespace", at("file")+"--netns: "+filepath.Join(folder, "file")+" is not a network namespace",
			at("fifo")+"--netns: "+filepath.Join(folder, "fifo")+" is not a network namespace",
			at("down")+"lo is down: what is redirected would not reach the proxy (set it up first)", "nosuch: --netns: there is no such namespace", "weir: 5 of 10 network namespaces failed\n")
	if lines := strings.Count(o.errs, "\n"); lines != 5+2 {
		t.Errorf("want a line for each failure, one for the note and one for all: %s", o)
	}
	if left := append(down.tables(), down.ours()...); len(left) > 0 {
		t.Errorf("left where lo is down: %v", left)
	}
	for _, ns := range spaces {
		if len(ns.tables()) == 0 {
			t.Error("a namespace is not enrolled")
		}
	}
	c.run("ambient", "pod", "verify", "--netns", mapped).want(t, 0)
	c.run("ambient", "pod", "apply", "--netns", folder+"/no*").want(t, 2).says(t, "matches no namespace")
	unable := c.with(func(c *cli) { c.uid, c.caps = 65534, []uintptr{unix.CAP_NET_ADMIN} })
	unable.run("ambient", "pod", "remove", "--netns", mapped, "--netns", filepath.Join(folder, "pod000")).want(t, 1).
		says(t, "permission denied (another user's process takes CAP_SYS_PTRACE, entering a namespace CAP_SYS_ADMIN)", "2 of 2 network namespaces failed")
}

// TestManyAsJSON: every namespace has what a program would read of it alone, or
// why it failed.
func TestManyAsJSON(t *testing.T) {
	t.Parallel()
	c := newCLI(t)
	folder, _ := manyNamespaces(t, 2)
	link(t, "/nowhere", filepath.Join(folder, "vanished"))
	o := c.run("ambient", "pod", "apply", "--v6", "--json", "--netns", folder+"/*").want(t, 1)
	got := jsonOf[struct {
		Namespaces map[string]resultJSON
		Results    map[string]int
		Failed     map[string]string
	}](t, o.out)
	if len(got.Namespaces) != 2 || got.Namespaces[folder+"/pod001"].Outcome != "created" || got.Results["created"] != 2 ||
		len(got.Failed) != 1 || !strings.Contains(got.Failed[folder+"/vanished"], "there is no such namespace") {
		t.Errorf("%+v", got)
	}
}

// TestAPodOfAnotherUserNamespace: users are those that the pod knows, whoever
// they are on the host.
func TestAPodOfAnotherUserNamespace(t *testing.T) {
	t.Parallel()
	needUsers(t)
	c := newCLI(t)
	path := mappedNamespace(t)
	pod, err := scratch.OpenNamespace(path)
	if err != nil {
		t.Fatal(err)
	}
	defer pod.Close()
	world := newNamespace(t)
	inside := &namespace{TB: t, file: openNamespace(t, path)}
	inside.ip("link add eth0 type veth peer name eth1")
	inside.ip(fmt.Sprintf("link set eth1 netns /proc/%d/fd/%d", os.Getpid(), world.file.Fd()))
	for ns, commands := range map[*namespace][]string{
		inside: {"addr add 10.9.0.1/24 dev eth0", "link set eth0 up"},
		world:  {"addr add 10.9.0.2/24 dev eth1", "link set eth1 up"},
	} {
		for _, command := range commands {
			ns.ip(command)
		}
	}
	s, err := scratch.Listeners{Name: "proxy", TCP: []uint16{uint16(outboundPort)}}.Serve(t.Context(), pod)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	c.ok("ambient", "pod", "apply", "--netns", path, "--outbound-exclude-uids", "1000")
	to := netip.MustParseAddrPort("10.9.0.2:80")
	if got, err := call(pod, mappedID+1001, to); err != nil || got.Land != "proxy:15001" {
		t.Errorf("user 1001 of the pod reached %v, %v", got, err)
	}
	if got, err := call(pod, mappedID+1000, to); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("user 1000 of the pod is excluded, and reached %v, %v", got, err)
	}
}

// mappedID is the user of the host's who is root in a mapped namespace.
const mappedID = 100000

// mappedNamespace is the path of a network namespace in a user namespace, whose
// root is some other user here.
func mappedNamespace(t *testing.T) string {
	t.Helper()
	maps := []syscall.SysProcIDMap{{ContainerID: 0, HostID: mappedID, Size: 65536}}
	cmd := exec.Command("sleep", "60")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNET, UidMappings: maps, GidMappings: maps}
	if err := cmd.Start(); err != nil {
		t.Skipf("no user namespace can be made: %v", err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	path := fmt.Sprintf("/proc/%d/ns/net", cmd.Process.Pid)
	n := &namespace{TB: t, file: openNamespace(t, path)}
	n.ip("link set lo up")
	return path
}
