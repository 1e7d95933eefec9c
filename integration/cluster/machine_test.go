// SPDX-License-Identifier: Apache-2.0

//go:build linux

package cluster

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/weir-mesh/weir/netns"
)

// machine is a machine of its own, as far as namespaces can be one. Its disk is a folder of the test's, which
// outlives a reboot; network, mounts below /run, and processes do not.
type machine struct {
	testing.TB
	dir string // its disk, at the same path inside

	cmd *exec.Cmd
	pid int // its first process
	net *netns.Namespace

	mu      sync.Mutex
	daemons map[string]*daemon
}

// daemon is a program that runs on the machine.
type daemon struct {
	cmd *exec.Cmd
	log string
}

const nodeAddress, gatewayAddress = "192.0.2.1", "10.88.0.1"

// bootScript mounts what survives a reboot, and makes what a node has of a network.
const bootScript = `set -e
mount --make-rprivate /
umount -R -l /run/netns 2>/dev/null || :   # the machine's own, below which nothing would be found
mount -t tmpfs tmpfs /run
mkdir -p /opt /etc/cni
for d in /var/lib /var/log /opt /etc/cni; do mount -t tmpfs tmpfs $d; done
for d in /var/lib/kubelet /var/lib/cni /var/lib/weir /opt/cni/bin /etc/cni/net.d; do mkdir -p "$0/disk$d" $d; mount --bind "$0/disk$d" $d; done
mount --make-shared /var/lib/kubelet
mount --make-shared /run
mkdir -p /run/netns /run/containerd /run/lock
hostname weirnode
ip link set lo up
ip link add node0 type veth peer name node0p
ip address add 192.0.2.1/24 dev node0
ip -6 address add 2001:db8:2::1/64 dev node0 nodad
ip link set node0 up; ip link set node0p up
ip route add default dev node0
sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
nft -f - <<N
table ip service {
  chain output { type nat hook output priority -100; ip daddr 10.96.0.1 tcp dport 443 dnat to 192.0.2.1:6443; }
  chain prerouting { type nat hook prerouting priority -100; ip daddr 10.96.0.1 tcp dport 443 dnat to 192.0.2.1:6443; }
}
N
echo ready
exec sleep infinity
`

func newMachine(t testing.TB, dir string) *machine {
	t.Helper()
	m := &machine{TB: t, dir: dir, daemons: map[string]*daemon{}}
	t.Cleanup(m.off)
	m.boot()
	return m
}

func (m *machine) boot() {
	m.Helper()
	cmd := exec.Command("unshare", "--net", "--mount", "--pid", "--uts", "--fork", "--kill-child", "--mount-proc", "bash", "-c", bootScript, m.dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.StdoutPipe()
	if err != nil {
		m.Fatal(err)
	}
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		m.Fatal(err)
	}
	m.cmd = cmd
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "ready\n" {
		m.Fatalf("the machine is not ready: %q, %v\n%s", line, err, &errs)
	}
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", cmd.Process.Pid, cmd.Process.Pid))
	if err != nil {
		m.Fatal(err)
	}
	if m.pid, err = strconv.Atoi(strings.Fields(string(children))[0]); err != nil {
		m.Fatal(err)
	}
	if m.net, err = netns.OfProcess(m.pid); err != nil {
		m.Fatal(err)
	}
}

// off ends every process of the machine; what is on its disk stays.
func (m *machine) off() {
	if m.cmd == nil {
		return
	}
	_ = m.cmd.Process.Kill() // its child, the first process inside, goes with it, and all others with that
	_ = m.cmd.Wait()
	m.cmd = nil
	m.mu.Lock()
	defer m.mu.Unlock()
	for name, d := range m.daemons {
		_ = syscall.Kill(-d.cmd.Process.Pid, syscall.SIGKILL)
		_ = d.cmd.Wait()
		delete(m.daemons, name)
	}
	if m.net != nil {
		m.net.Close()
		m.net = nil
	}
}

func (m *machine) path(name string) string { return filepath.Join(m.dir, name) }

// command is a command on the machine.
func (m *machine) command(args ...string) *exec.Cmd {
	all := append([]string{"-t", strconv.Itoa(m.pid), "-n", "-m", "-p", "-u", "env", "-C", m.dir, "PATH=" + m.path("bin") + ":" + os.Getenv("PATH")}, args...)
	cmd := exec.Command("nsenter", all...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = time.Second
	return cmd
}

func (m *machine) try(args ...string) (string, error) {
	cmd := m.command(args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return strings.TrimSpace(out.String()), err
}

func (m *machine) run(args ...string) string {
	m.Helper()
	out, err := m.try(args...)
	if err != nil {
		m.Fatalf("%v: %v\n%s", args, err, out)
	}
	return out
}

// start runs a daemon until it is stopped or the machine is off.
func (m *machine) start(name string, args ...string) {
	m.Helper()
	cmd := m.command(args...)
	log := m.path("log/" + name + ".log")
	f, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		m.Fatal(err)
	}
	defer f.Close()
	cmd.Stdout, cmd.Stderr = f, f
	if err := cmd.Start(); err != nil {
		m.Fatal(err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.daemons[name] = &daemon{cmd, log}
}

// stop ends a daemon at once.
func (m *machine) stop(name string) {
	m.Helper()
	m.mu.Lock()
	d := m.daemons[name]
	delete(m.daemons, name)
	m.mu.Unlock()
	if d == nil {
		m.Fatalf("%s does not run", name)
	}
	group := d.cmd.Process.Pid
	_ = syscall.Kill(-group, syscall.SIGKILL)
	_ = d.cmd.Wait()
	await(m, name+" has ended", 20*time.Second, func() error { // what nsenter started ends after it
		if lives(group) {
			return errors.New("it has not")
		}
		return nil
	})
}

// lives reports whether a process group has a process that is not a zombie: the first process of a machine reaps none.
func lives(group int) bool {
	all, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range all {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		_, rest, _ := strings.Cut(string(text), ") ")
		fields := strings.Fields(rest) // state, parent, group: see proc_pid_stat(5)
		if len(fields) > 2 && fields[0] != "Z" && fields[2] == strconv.Itoa(group) {
			return true
		}
	}
	return false
}

// tellLogs prints the ends of the logs of a test that failed.
func (m *machine) tellLogs(names ...string) {
	for _, name := range names {
		text, _ := os.ReadFile(m.path("log/" + name + ".log"))
		m.Logf("%s:\n%s", name, text[max(0, len(text)-3000):])
	}
}

// dial connects from the machine's network.
func (m *machine) dial(ctx context.Context, network, address string) (conn net.Conn, err error) {
	enter := m.net.Inside(func() error {
		var d net.Dialer
		conn, err = d.DialContext(ctx, network, address)
		return err
	})
	return conn, errors.Join(enter)
}

func (m *machine) write(name, text string) string {
	m.Helper()
	path := m.path(name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(strings.ReplaceAll(text, "@DIR@", m.dir)), 0o644)); err != nil {
		m.Fatal(err)
	}
	return path
}

// program copies a program onto the machine's disk.
func (m *machine) program(name, from string) {
	m.Helper()
	text, err := os.ReadFile(from)
	if err != nil {
		m.Fatal(err)
	}
	path := m.path(name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path+".new", text, 0o755), os.Rename(path+".new", path)); err != nil {
		m.Fatal(err)
	}
}

// await tries until it succeeds, and returns how long that took.
func await(t testing.TB, what string, limit time.Duration, try func() error) time.Duration {
	t.Helper()
	start := time.Now()
	for {
		err := try()
		if err == nil {
			return time.Since(start)
		}
		if time.Since(start) > limit {
			t.Fatalf("%s: not within %s: %v", what, limit, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
