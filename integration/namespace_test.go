// SPDX-License-Identifier: Apache-2.0

//go:build linux

package integration

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/nftables"
	"github.com/weir-mesh/weir/nft"
	"golang.org/x/sys/unix"
)

// namespace is a network namespace of one test, with its loopback up. It goes
// when nothing runs or is open in it.
type namespace struct {
	testing.TB
	file *os.File
}

func newNamespace(t testing.TB) *namespace {
	t.Helper()
	if notIsolated != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("no network namespace can be made: %v", notIsolated)
		}
		t.Skipf("no network namespace can be made: %v", notIsolated)
	}
	n := &namespace{TB: t}
	err := onThread(func() (err error) {
		if err = unix.Unshare(unix.CLONE_NEWNET); err == nil {
			n.file, err = os.Open("/proc/thread-self/ns/net")
		}
		return err
	})
	if err != nil {
		t.Fatalf("a new network namespace: %v", err)
	}
	t.Cleanup(func() { n.file.Close() })
	n.ip("link set lo up")
	return n
}

// onThread runs f on a thread that ends with it.
func onThread(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for ever: the thread dies
		done <- f()
	}()
	return <-done
}

// do runs f inside the namespace, on a thread of its own. Sockets that f opens
// and processes that it starts stay inside.
func (n *namespace) do(f func() error) {
	n.Helper()
	if err := n.try(f); err != nil {
		n.Fatal(err)
	}
}

func (n *namespace) try(f func() error) error {
	return onThread(func() error {
		if err := unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter the namespace: %w", err)
		}
		return f()
	})
}

// conn is a connection of the product's into the namespace.
func (n *namespace) conn() *nft.Conn {
	n.Helper()
	c := n.opened()
	n.Cleanup(func() { c.Close() })
	return c
}

// opened is a conn that its caller closes.
func (n *namespace) opened() *nft.Conn {
	n.Helper()
	c, err := nft.Open(int(n.file.Fd()))
	if err != nil {
		n.Fatal(err)
	}
	return c
}

func (n *namespace) session() *nft.Session { return n.conn().Session(tableName, "test") }

// command runs a program inside and returns what it wrote.
func (n *namespace) command(stdin, name string, args ...string) (string, error) {
	var out, errs bytes.Buffer
	cmd := exec.Command(name, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errs
	if err := n.try(cmd.Run); err != nil {
		return "", fmt.Errorf("%s %s %s: %w: %s", name, strings.Join(args, " "), stdin, err, errs.String())
	}
	return out.String(), nil
}

func (n *namespace) must(stdin, name string, args ...string) string {
	n.Helper()
	out, err := n.command(stdin, name, args...)
	if err != nil {
		n.Fatal(err)
	}
	return out
}

// ip runs one ip(8) command.
func (n *namespace) ip(args string) string {
	n.Helper()
	return n.must("", "ip", strings.Fields(args)...)
}

// nft runs a script of nft(8)'s.
func (n *namespace) nft(script string) string {
	n.Helper()
	return n.must(script, "nft", "-a", "-f", "-")
}

// foreign is everything that nftables holds there but weir's tables, byte for
// byte.
func (n *namespace) foreign() string {
	n.Helper()
	var out strings.Builder
	for _, table := range strings.Split(strings.TrimSpace(n.nft("list tables")), "\n") {
		name := strings.TrimPrefix(table, "table ")
		if table != "" && !strings.HasPrefix(name, "inet "+tableName) {
			out.WriteString(n.nft("list table " + name))
		}
	}
	return out.String()
}

// tables are the names of the namespace's tables that begin like ours.
func (n *namespace) tables() []string {
	n.Helper()
	return regexp.MustCompile(`(?m)inet `+tableName+`\S*`).FindAllString(n.nft("list tables"), -1)
}

// routing is all policy rules, routes and loopback addresses, but for the routes
// that the kernel gives IPv6 addresses when it gets round to it.
func (n *namespace) routing() string {
	n.Helper()
	routes := kernelRoute.ReplaceAllString(n.ip("-6 route show table all"), "")
	return n.ip("-4 rule") + n.ip("-6 rule") + n.ip("-4 route show table all") + routes + n.ip("addr show dev lo")
}

var kernelRoute = regexp.MustCompile(`(?m)^.* proto kernel .*\n`)

var oursPattern = regexp.MustCompile(`proto 119|inet6 ::6/128|inet 127\.0\.1\.`)

// ours is what of the routing carries our protocol number, and the addresses
// that states of these tests have.
func (n *namespace) ours() []string {
	n.Helper()
	var lines []string
	for _, l := range strings.Split(n.routing(), "\n") {
		if oursPattern.MatchString(l) {
			lines = append(lines, strings.TrimSpace(l))
		}
	}
	return lines
}

// handle is the handle of the rule with that comment.
func (n *namespace) handle(reason string) string {
	n.Helper()
	m := regexp.MustCompile(`comment "` + regexp.QuoteMeta(reason) + `" # handle (\d+)`).FindStringSubmatch(n.nft("list table inet " + tableName))
	if m == nil {
		n.Fatalf("no rule says %q", reason)
	}
	return m[1]
}

// child is this test binary in one of its roles. It ends with its standard
// input, and so with the test that started it.
type child struct {
	*exec.Cmd
	t     testing.TB
	in    io.WriteCloser
	lines *bufio.Scanner
	errs  bytes.Buffer
}

// start starts a child inside the namespace.
func (n *namespace) start(role string) *child {
	n.Helper()
	c := newChild(n, role)
	n.do(c.Start)
	return c
}

// forget lets go of what a child held that has ended, of which there may be thousands until the test does.
func (c *child) forget() { c.Cmd, c.in, c.lines, c.errs = nil, nil, nil, bytes.Buffer{} }

func newChild(t testing.TB, role string) *child {
	t.Helper()
	c := &child{Cmd: exec.Command("/proc/self/exe"), t: t}
	c.Env = append(os.Environ(), roleEnv+"="+role)
	c.Stderr = &c.errs
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if c.in, err = c.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	c.lines = bufio.NewScanner(out)
	t.Cleanup(func() {
		if c.Cmd != nil && c.Process != nil && c.ProcessState == nil {
			_ = c.Process.Kill() // it may have ended
			_ = c.Wait()
		}
	})
	return c
}

// say sends a line.
func (c *child) say(format string, args ...any) {
	c.t.Helper()
	if _, err := fmt.Fprintf(c.in, format+"\n", args...); err != nil {
		c.t.Fatalf("a child takes no orders: %v: %s", err, c.errs.String())
	}
}

// hear waits for a line.
func (c *child) hear() string {
	c.t.Helper()
	if !c.lines.Scan() {
		err := c.Wait()
		c.t.Fatalf("a child ended: %v: %s", err, c.errs.String())
	}
	return c.lines.Text()
}

// holdLock creates the lock table with an owner, as an apply does, and returns
// what lets go of it.
func (n *namespace) holdLock() (unlock func()) {
	n.Helper()
	c, err := nftables.New(nftables.WithNetNSFd(int(n.file.Fd())), nftables.AsLasting())
	if err != nil {
		n.Fatal(err)
	}
	const owner = 2 // NFT_TABLE_F_OWNER
	c.AddTable(&nftables.Table{Name: tableName + "-lock", Family: nftables.TableFamilyINet, Flags: owner})
	if err := c.Flush(); err != nil {
		n.Fatal(err)
	}
	unlock = sync.OnceFunc(func() { _ = c.CloseLasting() })
	n.Cleanup(unlock)
	return unlock
}

// changed lists the lines that only one of two listings has, "" where there are
// none. What is left of an element's time does not count.
func changed(before, after string) string {
	before, after = expires.ReplaceAllString(before, ""), expires.ReplaceAllString(after, "")
	if before == after {
		return ""
	}
	var out []string
	a, b := strings.Split(before, "\n"), strings.Split(after, "\n")
	for _, l := range a {
		if !slices.Contains(b, l) {
			out = append(out, "- "+l)
		}
	}
	for _, l := range b {
		if !slices.Contains(a, l) {
			out = append(out, "+ "+l)
		}
	}
	if len(out) == 0 {
		return "the same lines in another order"
	}
	return strings.Join(out, "\n")
}

var expires = regexp.MustCompile(` expires \S+`)

var handles = regexp.MustCompile(` # handle \d+`)
