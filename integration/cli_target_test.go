// SPDX-License-Identifier: Apache-2.0

//go:build linux

package integration

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// inMounts runs f on a thread with mounts of its own, which go with the thread
// and what it started.
func inMounts(f func() error) error {
	return onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS); err != nil {
			return fmt.Errorf("mounts of a test's own: %w", err)
		}
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			return fmt.Errorf("make mounts private: %w", err)
		}
		return f()
	})
}

// TestNamespaceByName: a name is looked up in /run/netns, and its files in
// /etc/netns, as by ip(8).
func TestNamespaceByName(t *testing.T) {
	t.Parallel()
	c, other := newCLI(t), newNamespace(t)
	named := filepath.Join("/etc/netns", "blue", "resolv.conf")
	args := []string{"apply", "--mode", "sidecar", "--proxy-uids", "1", "--dns-capture", "servers", "--netns", "blue"}
	cmd, out, errs := c.command("", args...)
	unprivileged := c.with(func(c *cli) { c.uid, c.caps = 65534, []uintptr{unix.CAP_NET_ADMIN} })
	unable, _, unableSays := unprivileged.command("", "show", "--netns", "blue")
	err := inMounts(func() error {
		// An empty /run, and an /etc with a name's own folder, over the machine's.
		for _, dir := range []string{"/run", "/etc"} {
			if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
				return fmt.Errorf("%s: %w", dir, err)
			}
		}
		point := "/run/netns/blue"
		err := errors.Join(os.MkdirAll(filepath.Dir(point), 0o755), os.WriteFile(point, nil, 0o644),
			unix.Mount(fmt.Sprintf("/proc/self/fd/%d", other.file.Fd()), point, "", unix.MS_BIND, ""),
			os.MkdirAll(filepath.Dir(named), 0o755), os.WriteFile(named, []byte("nameserver 192.0.2.53\n"), 0o644))
		if err != nil {
			return err
		}
		if !oneUser() {
			_ = unable.Run() // its exit code tells
		}
		return c.within(cmd.Run)
	})
	if err != nil {
		t.Fatalf("%v: %s%s", err, out, errs)
	}
	ended(cmd, args, out.String(), errs.String()).prints(t, "created: inet weir").says(t, "[192.0.2.53]")
	if here, there := c.tables(), other.tables(); len(here) != 0 || len(there) != 1 {
		t.Errorf("applied here %v, there %v", here, there)
	}
	if unable.ProcessState != nil {
		ended(unable, []string{"show"}, "", unableSays.String()).want(t, 1).says(t, "entering a namespace", "CAP_SYS_ADMIN")
	}
}

// within runs f on this thread, moved into the namespace.
func (n *namespace) within(f func() error) error {
	if err := unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET); err != nil {
		return err
	}
	return f()
}

// TestNamespaceByPath: paths and processes name namespaces, and a flag may stand
// anywhere.
func TestNamespaceByPath(t *testing.T) {
	t.Parallel()
	c, other := newCLI(t), newNamespace(t)
	pod := write(t, "pod.yaml", podYAML)
	path := fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), other.file.Fd())
	idle, end := other.idle(c.program, "")
	pid := fmt.Sprint(idle)
	for i, args := range [][]string{
		{"apply", "--netns", path, "-f", pod},
		{"verify", "-f", pod, "--netns", fmt.Sprintf("/proc/%s/ns/net", pid)},
		{"verify", "--pid", pid, "-f", pod},
		{"verify", "--json", "--pid=" + pid},
		{"show", "-pid", pid},
		{"plan", "--pid", pid, "-f", pod, "--exit-code"},
		{"apply", "--pid", pid, "--mode", "none"},
		{"apply", "-f", pod, "--pid", pid},
		{"remove", "--json", "--pid", pid},
	} {
		c.run(args...).want(t, 0)
		if here, there := c.tables(), other.tables(); len(here) != 0 || len(there) != 1 && i != 6 && i != 8 {
			t.Errorf("weir %s: applied here %v, there %v", strings.Join(args, " "), here, there)
		}
	}
	end()
	for says, args := range map[string][]string{
		"weir: --netns: there is no such namespace: open /run/netns/nowhere: no such file or directory\n":     {"show", "--netns", "nowhere"},
		"weir: --pid: there is no such namespace: open /proc/" + pid + "/ns/net: no such file or directory\n": {"apply", "-f", pod, "--pid", pid},
	} {
		c.run(args...).want(t, 2).says(t, says)
	}
}

// idle is a process in the namespace that does nothing, with another root folder
// if that is not "".
func (n *namespace) idle(program, root string) (pid int, end func()) {
	n.Helper()
	c := &cli{namespace: n, program: program, chroot: root}
	cmd, _, _ := c.command("", "apply", "--config", "-") // which waits for its standard input
	cmd.Stdin = nil
	in, err := cmd.StdinPipe()
	if err != nil {
		n.Fatal(err)
	}
	n.do(cmd.Start)
	end = func() {
		in.Close()
		_ = cmd.Wait() // it complains of no configuration
	}
	n.Cleanup(end)
	return cmd.Process.Pid, end
}

// TestEnvironmentOfAProcess: names and resolvers are those that the process
// sees.
func TestEnvironmentOfAProcess(t *testing.T) {
	t.Parallel()
	needUsers(t)
	c, other := newCLI(t), newNamespace(t)
	pid, _ := other.idle("", podRoot(t))
	c.run("apply", "--pid", fmt.Sprint(pid), "--mode", "sidecar", "--proxy-gids", "mail", "--dns-capture", "servers").want(t, 0).
		says(t, "the namespace's resolvers were taken: [10.96.0.10 127.0.0.53 2001:db8:53::53]")
	elements := c.ok("show", "--pid", fmt.Sprint(pid))
	if !strings.Contains(elements, "set proxy_gids (type gid), 1 element\n  8\n") {
		t.Errorf("mail is not 8:\n%s", elements)
	}
}

// initialNamespace is the machine's own network namespace, if a process outside
// of the tests' is in it: nil where the tests run in a container, say.
func initialNamespace(t *testing.T) *namespace {
	t.Helper()
	for _, pid := range []int{os.Getppid(), 1} {
		f, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
		if err != nil {
			continue
		}
		t.Cleanup(func() { f.Close() })
		n := &namespace{TB: t, file: f}
		// A setting of the whole machine's is shown nowhere else.
		if n.try(func() error { _, err := os.Stat("/proc/sys/net/core/netdev_max_backlog"); return err }) == nil {
			return n
		}
	}
	return nil
}

// TestInitialNamespaceIsRefused: no machine is captured by trying an example.
// The kernel ends a run that opens a netlink socket, so none can do harm here.
func TestInitialNamespaceIsRefused(t *testing.T) {
	isolated(t)
	machine := initialNamespace(t)
	if machine == nil {
		t.Skip("no process in reach is in the machine's own network namespace")
	}
	root := sharedDir(t)
	here := &cli{namespace: machine, program: install(t, root), guard: true}
	pod := write(t, "pod.yaml", podYAML)
	const says = "weir: this is the machine's own network namespace: applying here would capture the traffic of everything on it"
	here.run("apply", "-f", pod).want(t, 2).says(t, says, "--netns or --pid", "unshare -n", "--host-network")
	here.run("apply", "--mode", "none").want(t, 2).says(t, says)
	elsewhere := here.with(func(c *cli) { c.namespace = newNamespace(t) })
	path := fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), machine.file.Fd())
	elsewhere.run("apply", "-f", pod, "--netns", path).want(t, 2).says(t, says)
	const tracing = "weir: this is the machine's own network namespace: tracing here would show the packets of everything on it"
	here.run("trace", "--count", "1").want(t, 2).says(t, tracing, "--netns or --pid", "--host-network")
	elsewhere.run("trace", "--count", "1", "--netns", path).want(t, 2).says(t, tracing)
	if o := here.run("trace", "--count", "1", "--host-network"); o.signal != syscall.SIGSYS {
		t.Errorf("a trace with --host-network is refused: %s", o)
	}
	if o := here.run("plan", "-f", pod); o.signal != syscall.SIGSYS {
		t.Errorf("a plan is refused: %s", o)
	}
	if linux(t, 6, 18) {
		// By the namespace's number, without /proc.
		here.with(func(c *cli) { c.chroot = root }).run("apply", "--mode", "sidecar", "--proxy-uids", "1").want(t, 2).says(t, says)
	}
	if o := elsewhere.run("apply", "-f", pod); o.signal != syscall.SIGSYS {
		t.Errorf("another namespace is refused: %s", o)
	}
}

// linux reports whether the kernel is of that version or later.
func linux(t *testing.T, major, minor int) bool {
	t.Helper()
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		t.Fatal(err)
	}
	var is, at int
	if _, err := fmt.Sscanf(unix.ByteSliceToString(name.Release[:]), "%d.%d", &is, &at); err != nil {
		t.Fatal(err)
	}
	return is > major || is == major && at >= minor
}

// emptyRoot is a root folder that holds the program and nothing else.
func emptyRoot(t *testing.T) string {
	t.Helper()
	root := sharedDir(t)
	install(t, root)
	return root
}

// TestAnImageOfOneFile: the program works where there is nothing but it, on a
// file system that cannot be written, as any user who may administer the
// network.
func TestAnImageOfOneFile(t *testing.T) {
	t.Parallel()
	needUsers(t)
	for why, change := range map[string]func(*cli){
		"as root":                            func(*cli) {},
		"as a user with CAP_NET_ADMIN alone": func(c *cli) { c.uid, c.caps = 65534, []uintptr{unix.CAP_NET_ADMIN} },
	} {
		t.Run(why, func(t *testing.T) {
			t.Parallel()
			c := &cli{namespace: newNamespace(t), chroot: emptyRoot(t)}
			c.dualStack()
			c.readOnly = true
			change(c)
			c.worksAlone(t)
		})
	}
}

func (c *cli) worksAlone(t *testing.T) {
	sidecar := []string{"--mode", "sidecar", "--proxy-uids", "1337", "--proxy-gids", "1337", "--inbound-via", "tproxy", "--dns-capture", "all"}
	with := func(command string, more ...string) []string {
		return append(append([]string{command}, sidecar...), more...)
	}
	c.run(with("verify")...).want(t, 3)
	c.run(with("plan", "--exit-code")...).want(t, 3).prints(t, "tproxy to :15006", "# table inet weir is missing")
	c.run(with("apply")...).want(t, 0).prints(t, "created: inet weir, state ")
	c.run(with("apply")...).want(t, 0).prints(t, "unchanged: ")
	c.run(with("apply", "--outbound-exclude-cidrs", "10.0.0.0/8")...).want(t, 0).prints(t, "replaced: ")
	c.run(with("apply", "--outbound-exclude-cidrs", "10.0.0.0/7")...).want(t, 0).prints(t, "updated: ")
	c.run("verify").want(t, 0).prints(t, "clean: ")
	c.run(with("verify", "--outbound-exclude-cidrs", "10.0.0.0/7")...).want(t, 0)
	if s := c.shown(); !s.Present || s.Drifted || len(s.Routing) != 7 {
		t.Errorf("show says %+v", s)
	}
	c.run("remove").want(t, 0).prints(t, "removed: ")
	c.run("istio-init", "-p", "15001", "-u", "1337", "-m", "REDIRECT", "-i", "*", "-b", "*", "-d", "15090", "--redirect-dns", "--capture-all-dns").want(t, 0).says(t, "outcome=created")
	c.run("istio-init", "--cleanup-only").want(t, 0).says(t, "outcome=removed")
	if left := append(c.tables(), c.ours()...); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	c.run("version").want(t, 0)

	// What cannot be had is named.
	c.run("apply", "--mode", "sidecar", "--proxy-uids", "istio-proxy").want(t, 2).says(t, `"istio-proxy" is neither a number nor a user known here (open /etc/passwd: no such file or directory)`)
	c.run("apply", "--mode", "sidecar", "--proxy-gids", "mail").want(t, 2).says(t, "(open /etc/group: no such file or directory)")
	c.run("plan", "--mode", "sidecar", "--proxy-gids", "1", "--dns-capture", "servers").want(t, 1).says(t, "--dns-capture: no resolver is known (want dns.servers, dns.capture: all, or none) (open /etc/resolv.conf: no such file or directory)")
	c.istio("-i *", "--redirect-dns").want(t, 1).says(t, "no resolver is known")
	c.istio("-i *", "--redirect-dns", "--capture-all-dns", "--dry-run").want(t, 0)
	c.run("show", "--netns", "blue").want(t, 2).says(t, "open /run/netns/blue: no such file or directory")
	c.run("show", "--pid", "1").want(t, 2).says(t, "open /proc/1/ns/net: no such file or directory")
	entries, err := os.ReadDir(c.chroot)
	if err != nil || len(entries) != 1 {
		t.Errorf("the folder holds %v, %v", entries, err)
	}
}

// TestTerminationLog: the last error stands where the kubelet looks, if that is
// there.
func TestTerminationLog(t *testing.T) {
	t.Parallel()
	needUsers(t)
	root := emptyRoot(t)
	c := &cli{namespace: newNamespace(t), chroot: root}
	dev, file := filepath.Join(root, "dev"), filepath.Join(root, "dev", "termination-log")
	bad := []string{"istio-init", "-p", "70000"}
	c.run(bad...).want(t, 2)
	if _, err := os.Stat(dev); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s: %v", dev, err)
	}
	if err := errors.Join(os.Mkdir(dev, 0o755), os.WriteFile(file, []byte(strings.Repeat("former ", 100)), 0o644)); err != nil {
		t.Fatal(err)
	}
	for says, args := range map[string][]string{
		"--envoy-port: \"70000\" is not a port": bad,
		"unknown flag: --frobnicate":            {"istio-init", "--frobnicate"},
		"validation: ":                          {"istio-init", "-i", "*", "--skip-rule-apply", "--run-validation", "--probe-timeout", "1ms"},
	} {
		c.run(args...)
		text, err := os.ReadFile(file)
		if err != nil || !strings.HasPrefix(string(text), "weir: ") || !strings.Contains(string(text), says) || strings.Contains(string(text), "former") {
			t.Errorf("weir %v wrote %q, %v", args, text, err)
		}
	}
	for _, args := range [][]string{{"istio-init", "-i", "*"}, {"istio-init", "--cleanup-only"}, {"istio-init", "-i", "*", "--print-config"}} {
		c.run(bad...).want(t, 2)
		c.run(args...).want(t, 0)
		if text, err := os.ReadFile(file); err != nil || len(text) > 0 {
			t.Errorf("after weir %v, a success, there is %q, %v", args, text, err)
		}
	}
}
