// SPDX-License-Identifier: Apache-2.0

//go:build linux

package integration

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/weir-mesh/weir/internal/scratch"
	"time"
)

// nodeLab is a machine of its own, as far as namespaces can be one: network, mounts, processes and name. All
// that runs in it ends with it.
type nodeLab struct {
	testing.TB
	dir string // writable, and the same path inside
	pid int    // its first process
}

// labSetup makes the folders that runtimes write, and what a node has of a network.
const labSetup = `set -e
mount --make-rprivate /
mount -t tmpfs tmpfs /run
for d in /var/lib/cni /var/lib/kubelet; do mkdir -p $d; mount -t tmpfs tmpfs $d; done
mount --make-shared /run
mkdir -p /run/netns /run/containerd /run/lock
hostname weirnode
ip link set lo up
ip link add node0 type veth peer name node0p
ip address add 192.0.2.1/24 dev node0
ip -6 address add 2001:db8:2::1/64 dev node0 nodad
ip link set node0 up; ip link set node0p up
ip route add default dev node0
echo ready
exec sleep infinity
`

func newNodeLab(t testing.TB) *nodeLab {
	t.Helper()
	needUsers(t)
	l := &nodeLab{TB: t, dir: sharedDir(t)}
	cmd := exec.Command(tool(t, "unshare", "util-linux"), "--net", "--mount", "--pid", "--uts", "--fork", "--kill-child", "--mount-proc", "sh", "-c", labSetup)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // its child, the first process inside, goes with it
		_ = cmd.Wait()
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("the node is not ready: %q, %v\n%s", line, err, &errs)
	}
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", cmd.Process.Pid, cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	if l.pid, err = strconv.Atoi(strings.Fields(string(children))[0]); err != nil {
		t.Fatal(err)
	}
	return l
}

// command is a command on the node. Variables of its environment come first, as NAME=VALUE.
func (l *nodeLab) command(args ...string) *exec.Cmd {
	path := "PATH=" + filepath.Join(l.dir, "bin") + ":" + os.Getenv("PATH")
	all := append([]string{"-t", strconv.Itoa(l.pid), "-n", "-m", "-p", "-u", "env", "-C", l.dir, path}, args...)
	cmd := exec.Command("nsenter", all...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = time.Second // what it left running inside may hold its output open
	return cmd
}

// end ends a command on the node, and what it started.
func end(cmd *exec.Cmd) {
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // it may have ended
	_ = cmd.Wait()
}

// try runs a command on the node, and returns what it printed.
func (l *nodeLab) try(args ...string) (string, error) {
	cmd := l.command(args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.String(), err
}

func (l *nodeLab) run(args ...string) string {
	l.Helper()
	out, err := l.try(args...)
	if err != nil {
		l.Fatalf("%v: %v\n%s", args, err, out)
	}
	return out
}

// start runs a command on the node until the test ends; what it prints is told where the test failed.
func (l *nodeLab) start(args ...string) {
	l.Helper()
	cmd := l.command(args...)
	var out lockedBuffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		l.Fatal(err)
	}
	l.Cleanup(func() {
		end(cmd)
		if text := out.String(); l.Failed() {
			l.Logf("%s:\n%s", filepath.Base(args[0]), text[max(0, len(text)-6000):])
		}
	})
}

func (l *nodeLab) write(name, text string) string {
	l.Helper()
	path := filepath.Join(l.dir, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(strings.ReplaceAll(text, "@LAB@", l.dir)), 0o644)); err != nil {
		l.Fatal(err)
	}
	return path
}

// installPlugins puts plugins of others, and weir's, into the node's folder of plugins.
func (l *nodeLab) installPlugins(from string, names ...string) {
	l.Helper()
	for _, name := range names {
		text, err := os.ReadFile(filepath.Join(from, name))
		if err != nil {
			l.Fatal(err)
		}
		l.program("cni/"+name, text)
	}
	weir, err := buildWeir()
	if err != nil {
		l.Fatal(err)
	}
	l.program("bin/weir", weir)
}

func (l *nodeLab) program(name string, text []byte) string {
	l.Helper()
	path := filepath.Join(l.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		l.Fatal(err)
	}
	return installAs(l, path, text)
}

// await tries until it succeeds.
func (l *nodeLab) await(what string, limit time.Duration, try func() error) {
	l.Helper()
	for end := time.Now().Add(limit); ; time.Sleep(50 * time.Millisecond) {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			l.Fatalf("%s: %v", what, err)
		}
	}
}

const (
	bannerEnv = "WEIR_TEST_BANNER" // what role banner says and where it listens: WORD PORT...
	landEnv   = "WEIR_TEST_LAND"   // where role land connects to
)

// playBanner listens on ports and says its word and the port to whoever connects.
func playBanner() error {
	words := strings.Fields(os.Getenv(bannerEnv))
	var all sync.WaitGroup
	for _, port := range words[1:] {
		ln, err := net.Listen("tcp", ":"+port)
		if err != nil {
			return err
		}
		all.Go(func() {
			for {
				conn, err := ln.Accept()
				if err != nil {
					return
				}
				_, _ = fmt.Fprintf(conn, "%s:%s", words[0], port)
				_ = conn.Close()
			}
		})
	}
	fmt.Println("ready")
	all.Wait()
	return nil
}

// playLand prints who answers a connection.
func playLand() error {
	conn, err := net.DialTimeout("tcp", os.Getenv(landEnv), 2*time.Second)
	if err != nil {
		fmt.Print("none")
		return nil
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(2 * time.Second)); err != nil {
		return err
	}
	_, err = io.Copy(os.Stdout, conn)
	return err
}

// inNetns is a command in a network namespace of the node, as a user.
func (l *nodeLab) inNetns(netns string, uid int, args ...string) []string {
	out := []string{}
	if netns != "" {
		out = append(out, "nsenter", "--net="+netns)
	}
	return append(append(out, "setpriv", "--reuid", strconv.Itoa(uid), "--regid", strconv.Itoa(uid), "--clear-groups"), args...)
}

// self is this test's program, where the node can run it.
func (l *nodeLab) self() string {
	l.Helper()
	path := filepath.Join(l.dir, "test-role")
	if _, err := os.Stat(path); err == nil {
		return path
	}
	text, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		l.Fatal(err)
	}
	return l.program("test-role", text)
}

// serve listens in a network namespace of the node as a user, and returns when it does.
func (l *nodeLab) serve(netns string, uid int, banner string) {
	l.Helper()
	cmd := l.command(l.inNetns(netns, uid, "env", roleEnv+"=banner", bannerEnv+"="+banner, l.self())...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.StdoutPipe()
	if err != nil {
		l.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		l.Fatal(err)
	}
	l.Cleanup(func() { end(cmd) })
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "ready\n" {
		l.Fatalf("%s: %q, %v\n%s", banner, line, err, &errs)
	}
}

// land is who answers a connection from a network namespace of the node, by a user.
func (l *nodeLab) land(netns string, uid int, to string) string {
	l.Helper()
	return l.run(l.inNetns(netns, uid, "env", roleEnv+"=land", landEnv+"="+to, l.self())...)
}

// checkCaptured proves of a pod, by real connections in each of its families, that what is to be captured
// reaches the proxy and what is excluded (outbound 3306, inbound 8081) does not.
func (l *nodeLab) checkCaptured(netns string, gateways, pods []string) {
	l.Helper()
	l.serve(netns, proxyID, "proxy 15001 15006")
	l.serve(netns, appID, "app 8080 8081")
	scratch.Eventually(l, "no address of the pod or the node is tentative", func() bool {
		tentative := []string{"ip", "-6", "address", "show", "tentative"}
		return l.run(tentative...) == "" && l.run(append([]string{"nsenter", "--net=" + netns}, tentative...)...) == ""
	})
	for i, gateway := range gateways {
		for _, tt := range []struct {
			from, netns string
			uid         int
			to, want    string
		}{
			{"the application", netns, appID, net.JoinHostPort(gateway, "9999"), "proxy:15001"},
			{"the application, excluded", netns, appID, net.JoinHostPort(gateway, "3306"), "world:3306"},
			{"the proxy", netns, proxyID, net.JoinHostPort(gateway, "9999"), "world:9999"},
			{"the node", "", 0, net.JoinHostPort(pods[i], "8080"), "proxy:15006"},
			{"the node, excluded", "", 0, net.JoinHostPort(pods[i], "8081"), "app:8081"},
		} {
			if got := l.land(tt.netns, tt.uid, tt.to); got != tt.want {
				l.Errorf("%s to %s lands at %s, want %s", tt.from, tt.to, got, tt.want)
			}
		}
	}
}
