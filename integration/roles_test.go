// SPDX-License-Identifier: Apache-2.0

//go:build linux

package integration

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"syscall"

	"github.com/weir-mesh/weir/nft"
	"github.com/weir-mesh/weir/rules"
	"golang.org/x/sys/unix"
)

// nothingAtAll is the number of the state that removes everything.
const nothingAtAll = -1

// stateNumber is one of the contenders, or nothing at all.
func stateNumber(i int) rules.State {
	if i == nothingAtAll {
		return rules.State{}
	}
	return contenders()[i]
}

// now is a time that all processes of a machine agree on.
func now() int64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		return 0
	}
	return t.Nano()
}

// played is how an order went: when it began and ended, and what came of it.
type played struct {
	state, began, ended int64
	outcome             nft.Outcome
}

// playApply takes orders "apply NUMBER" and answers each with a line.
func playApply() error {
	c, err := nft.Open(0)
	if err != nil {
		return err
	}
	defer c.Close()
	s := c.Session(tableName, "test")
	in := bufio.NewScanner(os.Stdin)
	fmt.Println("ready")
	for in.Scan() {
		var p played
		if _, err := fmt.Sscanf(in.Text(), "apply %d", &p.state); err != nil {
			return err
		}
		want := stateNumber(int(p.state))
		p.began = now()
		r, err := change(context.Background(), s, want)
		p.ended = now()
		if err != nil {
			return err
		}
		fmt.Println("played", p.state, p.began, p.ended, r.Outcome)
	}
	return in.Err()
}

// apply orders, and waits for what comes of it.
func (c *child) apply(number int) played {
	c.t.Helper()
	c.say("apply %d", number)
	return c.played()
}

func (c *child) played() (p played) {
	c.t.Helper()
	line := c.hear()
	if _, err := fmt.Sscanf(line, "played %d %d %d %s", &p.state, &p.began, &p.ended, &p.outcome); err != nil {
		c.t.Fatalf("%q: %v", line, err)
	}
	return p
}

// playVerify verifies until its input ends, and says in what the namespace was
// ever none of the contenders.
func playVerify() error {
	c, err := nft.Open(0)
	if err != nil {
		return err
	}
	defer c.Close()
	over := make(chan struct{})
	go func() {
		bufio.NewScanner(os.Stdin).Scan()
		close(over)
	}()
	s := c.Session(tableName, "test")
	states := contenders()
	seen := map[int]bool{}
	fmt.Println("ready")
	for rounds := 0; ; rounds++ {
		select {
		case <-over:
			fmt.Println("seen", rounds, len(seen))
			return nil
		default:
		}
		live, differences, err := s.Verify(context.Background(), states[0])
		if err != nil {
			return err
		}
		if drift, err := live.Drift(); err != nil || len(drift) > 0 {
			return fmt.Errorf("not what its own tag says: %v %w", drift, err)
		}
		found := slices.IndexFunc(states, func(want rules.State) bool { return len(live.Differences(want)) == 0 })
		if found < 0 {
			return fmt.Errorf("the state is neither: from the first it differs in %v", differences)
		}
		seen[found] = true
	}
}

// playNest starts a process in a network namespace of its own, says its number, and
// ends with its standard input.
func playNest() error {
	cmd := exec.Command("sleep", "60")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread() // which must not end before the process, see Pdeathsig
	if err := cmd.Start(); err != nil {
		return err
	}
	fmt.Println(cmd.Process.Pid)
	_, err := io.Copy(io.Discard, os.Stdin)
	return errors.Join(err, cmd.Process.Kill())
}
