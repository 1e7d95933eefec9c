// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Command demo shows weir at work on real traffic, in network namespaces that
// go when it ends: it takes the path of a weir binary and plays a pod with an
// application and a proxy, and the rest of the world.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

const limit = 30 * time.Second

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: demo PATH-OF-WEIR")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := start(ctx, os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		stop()
		os.Exit(1)
	}
}

// start runs the demo as root, and otherwise as root of a user namespace of its
// own.
func start(ctx context.Context, weir string) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if os.Geteuid() == 0 {
		return run(ctx, weir)
	}
	again := exec.CommandContext(ctx, "/proc/self/exe", weir)
	again.Stdin, again.Stdout, again.Stderr = os.Stdin, os.Stdout, os.Stderr
	again.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	if err := again.Run(); err != nil {
		return fmt.Errorf("in a user namespace (run as root where the kernel forbids them): %w", err)
	}
	return nil
}

func run(ctx context.Context, weir string) error {
	s, err := newScene(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	d := &demo{scene: s, weir: weir}
	for _, step := range []func(context.Context) error{d.before, d.capture, d.drift, d.remove} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// demo is the scene with the program under show.
type demo struct {
	*scene
	weir  string
	found []string // what the namespace held before
}

func say(format string, args ...any) { fmt.Printf("\n"+format+"\n", args...) }

// command runs weir in the pod's namespace and expects an exit code.
func (d *demo) command(ctx context.Context, want int, config bool, args ...string) error {
	shown := strings.Join(args, " ") + " --netns POD"
	args = append(args, "--netns", d.pod.Path())
	c := exec.CommandContext(ctx, d.weir)
	if config {
		shown += " --config pod.yaml"
		args = append(args, "--config", "-")
		c.Stdin = strings.NewReader(d.config)
	}
	c.Args = append(c.Args, args...)
	fmt.Printf("$ weir %s\n", shown)
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	err := c.Run()
	fmt.Print(indent(out.String()))
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return err
	}
	if code := c.ProcessState.ExitCode(); code != want {
		return fmt.Errorf("weir %s ended with %d, not %d", args[0], code, want)
	}
	return nil
}

func indent(text string) string {
	if text == "" {
		return ""
	}
	return "  " + strings.ReplaceAll(strings.TrimRight(text, "\n"), "\n", "\n  ") + "\n"
}

func (d *demo) before(ctx context.Context) (err error) {
	if d.found, err = snapshot(d.pod); err != nil {
		return err
	}
	say("Without weir the application and the world reach each other directly:")
	return d.show(ctx, false)
}

func (d *demo) capture(ctx context.Context) error {
	say("pod.yaml says who the proxy is:\n%s", indent(d.config))
	if err := d.command(ctx, 0, true, "apply"); err != nil {
		return err
	}
	say("Now every connection meets the proxy first, which recovers where it was going:")
	if err := d.show(ctx, true); err != nil {
		return err
	}
	say("The kernel is as the configuration says:")
	return d.command(ctx, 0, true, "verify")
}

func (d *demo) drift(ctx context.Context) error {
	say("Somebody removes the last rule of the chain output, behind weir's back:")
	if err := removeLastRule(d.pod, "weir", "output"); err != nil {
		return err
	}
	if err := d.command(ctx, 3, true, "verify"); err != nil {
		return err
	}
	say("apply mends it:")
	if err := d.command(ctx, 0, true, "apply"); err != nil {
		return err
	}
	return d.command(ctx, 0, true, "verify")
}

func (d *demo) remove(ctx context.Context) error {
	say("remove takes away what is weir's:")
	if err := d.command(ctx, 0, false, "remove"); err != nil {
		return err
	}
	now, err := snapshot(d.pod)
	if err != nil {
		return err
	}
	if strings.Join(now, "\n") != strings.Join(d.found, "\n") {
		return fmt.Errorf("the namespace is not as it was:\nbefore %q\nafter  %q", d.found, now)
	}
	fmt.Printf("  the namespace is as it was: the same %d tables, policy rules, routes and addresses\n", len(now))
	return nil
}
