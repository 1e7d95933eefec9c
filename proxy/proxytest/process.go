// SPDX-License-Identifier: Apache-2.0

//go:build linux

package proxytest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weir-mesh/weir/internal/scratch"
)

// How the copy of the test program that is to be a proxy learns so.
const (
	nameEnv  = "WEIR_PROXYTEST_NAME"  // which test it is of
	setupEnv = "WEIR_PROXYTEST_SETUP" // what it is asked for
)

const (
	stopTimeout = 2 * time.Second // for a proxy to end by itself
	keptOutput  = 4 << 10         // of what a proxy writes, its last bytes
)

// playProxy runs serve where this process is the copy that a test of that name started, and then
// ends the process.
func playProxy(name string, serve func(context.Context, Setup) error) {
	if os.Getenv(nameEnv) != name {
		return
	}
	var s Setup
	err := json.Unmarshal([]byte(os.Getenv(setupEnv)), &s)
	if err == nil {
		ctx, cancel := signal.NotifyContext(context.Background(), unix.SIGTERM)
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin) // ends with the test, however that ends
			cancel()
		}()
		err = serve(ctx, s)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// proxyCommand starts this program once more, to play the proxy of the test of that name.
func proxyCommand(name string, s Setup) *exec.Cmd {
	var pattern []string
	for part := range strings.SplitSeq(name, "/") {
		pattern = append(pattern, "^"+regexp.QuoteMeta(part)+"$")
	}
	text, err := json.Marshal(s)
	if err != nil {
		panic(err) // of a type without pointers, channels and functions
	}
	cmd := exec.Command("/proc/self/exe", "-test.run="+strings.Join(pattern, "/"), "-test.count=1", "-test.timeout=0")
	cmd.Env = append(os.Environ(), nameEnv+"="+name, setupEnv+"="+string(text),
		"GORACE="+os.Getenv("GORACE")+" atexit_sleep_ms=0") // else each copy sleeps for a second at its end
	return cmd
}

// process is a proxy at work.
type process struct {
	cmd    *exec.Cmd
	stdin  io.Closer
	output output
	ended  chan struct{}
	err    error // once it has ended
}

// startProcess starts cmd in the namespace. It is killed where this process ends without stopping it.
func startProcess(ns *scratch.Namespace, cmd *exec.Cmd) (*process, error) {
	p := &process{cmd: cmd, ended: make(chan struct{})}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start the proxy: %w", err)
	}
	p.stdin = stdin
	for _, stream := range []*io.Writer{&cmd.Stdout, &cmd.Stderr} {
		if *stream == nil {
			*stream = &p.output
		}
	}
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = new(syscall.SysProcAttr)
	}
	cmd.SysProcAttr.Pdeathsig = unix.SIGKILL
	cmd.WaitDelay = stopTimeout
	started := make(chan error, 1)
	go func() {
		// The signal comes when the thread ends that started it, which therefore waits.
		err := ns.Do(func() error {
			err := cmd.Start()
			started <- err
			if err == nil {
				p.err = cmd.Wait()
				close(p.ended)
			}
			return nil
		})
		if err != nil {
			started <- err
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start the proxy: %w", err)
	}
	return p, nil
}

// stop ends the proxy, which has time to do so by itself.
func (p *process) stop() {
	_ = p.stdin.Close()
	_ = p.cmd.Process.Signal(unix.SIGTERM)
	select {
	case <-p.ended:
	case <-time.After(stopTimeout):
		_ = p.cmd.Process.Kill()
		<-p.ended
	}
}

// kill ends the proxy at once.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.ended
}

// failure is how the proxy has ended, nil where it runs.
func (p *process) failure() error {
	select {
	case <-p.ended:
	default:
		return nil
	}
	if p.err == nil {
		return errors.New("the proxy has ended")
	}
	return fmt.Errorf("the proxy has ended: %w", p.err)
}

// output keeps the last of what a process writes.
type output struct {
	mu   sync.Mutex
	text []byte
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.text = append(o.text, b...)
	if over := len(o.text) - keptOutput; over > 0 {
		o.text = append(o.text[:0], o.text[over:]...)
	}
	return len(b), nil
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return string(bytes.TrimSpace(o.text))
}
