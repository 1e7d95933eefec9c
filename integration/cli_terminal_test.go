// SPDX-License-Identifier: Apache-2.0

//go:build linux

package integration

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// newTerminal is a terminal: what is written to its far end can be read.
func newTerminal(t *testing.T) (near, far *os.File) {
	t.Helper()
	near, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("there are no terminals: %v", err)
	}
	t.Cleanup(func() { near.Close() })
	fd := int(near.Fd())
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		far, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err != nil {
		t.Skipf("there are no terminals: %v", err)
	}
	t.Cleanup(func() { far.Close() })
	return near, far
}

// onTerminal runs the program with standard output, and standard error where that is asked for, on a terminal of so many
// columns, and returns what appears there.
func (c *cli) onTerminal(t *testing.T, columns uint16, errs bool, args ...string) string {
	t.Helper()
	near, far := newTerminal(t)
	if err := unix.IoctlSetWinsize(int(near.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 50, Col: columns}); err != nil {
		t.Fatal(err)
	}
	shown := make(chan string)
	go func() {
		text, _ := io.ReadAll(near) // which ends with EIO
		shown <- string(text)
	}()
	cmd, _, _ := c.command("", args...)
	cmd.Stdout = far
	if errs {
		cmd.Stderr = far
	}
	var failed error
	c.do(func() error { failed = cmd.Run(); return nil })
	far.Close()
	text := strings.ReplaceAll(<-shown, "\r\n", "\n")
	if cmd.ProcessState == nil {
		t.Fatalf("%s: %v", cmd, failed)
	}
	return text
}

var colour = regexp.MustCompile(`\x1b\[[0-9]+m`)

// TestTerminal: what is read on a terminal fits its width and has colours, unless NO_COLOR is set; a pipe has
// neither.
func TestTerminal(t *testing.T) {
	t.Parallel()
	c := newCLI(t)
	c.dir = sharedDir(t)
	const pod = "pod.yaml"
	c.putFile(pod, readmePod)
	c.run("apply", "-f", pod).want(t, 0)
	for _, args := range [][]string{
		{"explain", "-f", pod, "--all"}, {"explain", "-f", pod, "tcp", "198.51.100.7:80"}, {"show"}, {"doctor"}, {"list"},
		{"help"}, {"help", "apply"}, {"help", "keys"}, {"istio-init", "--help"}, {"kuma-init", "--help"},
	} {
		piped := c.run(args...).out
		if strings.Contains(piped, "\x1b") {
			t.Errorf("%v: a pipe has an escape sequence:\n%q", args, piped)
		}
		c.looksRight(t, args...)
	}
	noted := c.onTerminal(t, 80, true, "verify", "-f", pod) // of the listeners that are missing
	if lines := strings.Split(noted, "\n"); len(lines) < 4 || slices.ContainsFunc(lines, func(line string) bool { return len(line) > 80 }) {
		t.Errorf("a note does not fit 80 columns:\n%s", noted)
	}
	c.nft("delete rule inet weir output handle " + c.handle("an excluded destination is left alone"))
	c.looksRight(t, "verify", "-f", pod)
	if all := c.run("explain", "-f", pod, "--all").out; !strings.Contains(all, "to other IPv4, 10.0.0.0-10.244.1.4, 10.244.1.6-10.255.255.255, 127.0.0.1 ") {
		t.Errorf("a pipe has broken cells:\n%s", all)
	}
}

// TestTerminalHelp: the help of the other programs fits a terminal too.
func TestTerminalHelp(t *testing.T) {
	t.Parallel()
	for name, commands := range map[string][]string{
		"weir-node":   {"run", "uninstall", "release"},
		"weir-egress": {"watch", "report", "serve"},
	} {
		c := newCLI(t)
		program, err := build("./cmd/"+name, "")
		if err != nil {
			t.Fatal(err)
		}
		c.program = filepath.Join(sharedDir(t), name)
		installAs(t, c.program, program)
		c.looksRight(t, "--help")
		for _, command := range commands {
			c.looksRight(t, command, "--help")
		}
	}
}

// looksRight: on a terminal of 80 or 120 columns what a command prints fits and has colours, unless NO_COLOR is set.
func (c *cli) looksRight(t *testing.T, args ...string) {
	t.Helper()
	fits := func(text string, columns uint16) {
		t.Helper()
		for line := range strings.Lines(colour.ReplaceAllString(text, "")) {
			if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > int(columns) {
				t.Errorf("%v: a line of %d characters on %d columns: %s", args, n, columns, line)
			}
		}
	}
	for _, columns := range []uint16{80, 120} {
		shown := c.onTerminal(t, columns, false, args...)
		if !colour.MatchString(shown) {
			t.Errorf("%v: a terminal has no colours:\n%q", args, shown)
		}
		fits(shown, columns)
	}
	plain := c.with(func(c *cli) { c.env = append(c.env, "NO_COLOR=1") }).onTerminal(t, 80, false, args...)
	if strings.Contains(plain, "\x1b") {
		t.Errorf("%v: NO_COLOR leaves an escape sequence:\n%q", args, plain)
	}
	fits(plain, 80)
}

// TestTerminalTrace: traced packets fit a terminal and have colours, and a trace of one connection ends while others are
// opened all the time.
func TestTerminalTrace(t *testing.T) {
	t.Parallel()
	c := newCLI(t)
	c.ok("apply", "--mode", "sidecar", "--proxy-uids", "1337")
	c.outward()
	c.nft(`table ip theirs { chain early { type filter hook output priority -10; tcp dport 9 counter comment "` + strings.Repeat("a long reason ", 8) + `"; }; }`)
	over, stop := context.WithCancel(t.Context())
	dials := make(chan struct{})
	go func() {
		defer close(dials)
		for over.Err() == nil {
			_ = c.try(func() error { return refused(over, "198.51.100.7:9") })
			time.Sleep(10 * time.Millisecond)
		}
	}()
	defer func() { stop(); <-dials }()
	begin := time.Now()
	c.looksRight(t, "trace", "--count", "1", "--for", "5m", "--to", "198.51.100.7:9", "tcp")
	if took := time.Since(begin); took > 3*time.Minute {
		t.Errorf("three traces of one connection took %s while others were opened", took)
	}
}

// refused dials an address that nothing listens at.
func refused(ctx context.Context, address string) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp4", address)
	if err == nil {
		conn.Close()
	}
	return err
}

// TestProgress: work that takes long has a line on a terminal, which is gone at the end and before anything else; short
// work and pipes have none.
func TestProgress(t *testing.T) {
	t.Parallel()
	c := newCLI(t)
	folder, _ := manyNamespaces(t, 4)
	few := func(verb string, more ...string) []string {
		return append([]string{"ambient", "pod", verb, "--v6", "--netns", folder + "/*"}, more...)
	}
	const clear = "\r\x1b[K"
	long := few("verify", "--wait", "1500ms")
	if got := c.run(long...).want(t, 3).errs; strings.Contains(got, clear) || strings.Contains(got, "1s") {
		t.Errorf("no terminal is told %q", got)
	}
	if got, want := c.onTerminal(t, 80, true, long...), clear+"weir ambient pod verify: 1s, 0 of 4 network namespaces, 0 failed"+clear; strings.Count(got, want) != 1 ||
		strings.Count(got, clear)%2 != 0 || !strings.HasSuffix(got, "4 network namespaces: 4 differing\n") {
		t.Errorf("the terminal shows %q, want once %q", got, want)
	}
	if got := c.onTerminal(t, 80, true, few("apply")...); strings.Contains(got, clear) {
		t.Errorf("short work has a line: %q", got)
	}
}
