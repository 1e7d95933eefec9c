// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

// What the guest says on its console, one a line, between whatever else is written there.
const (
	helloLine  = "weir-kernels: hello"
	resultLine = "weir-kernels: result "
	doneLine   = "weir-kernels: done"
)

const (
	// emulated names qemu's own emulation, for machines without virtualization.
	emulated = "tcg"

	// emulatedCPU is the processor with the fewest extensions that the programs run on: wide
	// vectors and five levels of page tables cost the emulation a quarter of its time.
	emulatedCPU = "qemu64"

	// instructionTime has the guest's clock go by the instructions that it executes, 8 ns
	// each, and not by the host's: what is to happen within a time does so on a busy host
	// too. While the guest waits, its clock jumps to the end of the wait.
	instructionTime = "shift=3,sleep=off"
)

// accelerator is kvm where a guest starts with it in time. A machine may have /dev/kvm
// and yet none of it that works.
func (h *host) accelerator(ctx context.Context, vmlinuz, initramfs string) (string, error) {
	if !exists("/dev/kvm") || !exists("/sys/module/kvm_intel") && !exists("/sys/module/kvm_amd") {
		fmt.Println("no KVM by the processor: emulated") // PVM, which nests without it, runs no kernel but those made for it
		return emulated, nil
	}
	const patience = 30 * time.Second
	limited, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if _, err := boot(limited, "kvm", vmlinuz, initramfs, "^no row$", false, ""); err != nil {
		fmt.Printf("no guest starts with KVM within %s: emulated\n", patience)
		return emulated, ctx.Err()
	}
	return "kvm", nil
}

// boot starts a machine and returns what it says of each row, which is printed under the
// name; beside an error, of those that ended.
func boot(ctx context.Context, accel, vmlinuz, initramfs, only string, times bool, name string) ([]result, error) {
	line := "console=ttyS0 quiet panic=-1 edd=off nokaslr mitigations=off init_on_alloc=0 norandmaps"
	if only != "" {
		line += " " + onlyParameter + strings.ReplaceAll(only, " ", "_")
	}
	if times {
		line += " " + timesParameter
	}
	args := []string{"-n", "10", "qemu-system-x86_64", "-accel", accel, "-m", "1536", "-nodefaults", "-no-user-config", "-display", "none",
		"-serial", "stdio", "-no-reboot", "-kernel", vmlinuz, "-initrd", initramfs, "-append", line}
	if accel == emulated {
		args = append(args, "-cpu", emulatedCPU, "-icount", instructionTime)
	} else {
		args = append(args, "-smp", "2")
	}
	cmd := exec.CommandContext(ctx, "nice", args...)
	cmd.Stderr = os.Stderr
	if accel != emulated {
		cmd.Stderr = nil // it is tried
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	results, said, done := hear(name, bufio.NewReader(out), func() time.Duration { return processorTime(cmd.Process.Pid) })
	err = cmd.Wait()
	switch {
	case ctx.Err() != nil:
		return results, fmt.Errorf("not done in time: %w\n%s", ctx.Err(), said)
	case err != nil:
		return results, fmt.Errorf("qemu-system-x86_64: %w\n%s", err, said)
	case !done:
		return results, fmt.Errorf("the guest ended early:\n%s", said)
	}
	return results, nil
}

// processorTime is what a process has used of the processors, 0 where it is gone.
func processorTime(pid int) time.Duration {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	_, fields, _ := strings.Cut(string(text), ") ") // the command's name may hold spaces
	var ticks, n time.Duration
	for i, field := range strings.Fields(fields) {
		const utime, stime = 11, 12 // proc_pid_stat(5), counted from the state
		if i == utime || i == stime {
			if _, err := fmt.Sscan(field, &n); err == nil {
				ticks += n
			}
		}
	}
	const perSecond = 100 // USER_HZ, the same on every architecture that Go has
	return ticks * time.Second / perSecond
}

// hear reads the console, and prints each result as it comes, with the processor time
// that it took of the host. What is not meant for it is kept, as far as it may explain a
// failure.
func hear(name string, console *bufio.Reader, processor func() time.Duration) (results []result, said string, done bool) {
	const most = 16 << 10
	var before time.Duration
	for {
		line, err := console.ReadString('\n')
		line = strings.TrimRight(line, "\r\n")
		if text, ok := strings.CutPrefix(line, resultLine); ok {
			var r result
			if json.Unmarshal([]byte(text), &r) == nil {
				now := processor()
				fmt.Printf("%-5s %-40s %s, %s of the host's processor\n", name, r.Row, r, (now - before).Round(time.Second))
				before = now
				results = append(results, r)
			}
		} else if line == doneLine {
			done = true
		} else if line != "" && line != helloLine {
			said += line + "\n"
			said = said[max(0, len(said)-most):]
		}
		if err != nil {
			return results, said, done
		}
	}
}
