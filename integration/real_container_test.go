// SPDX-License-Identifier: Apache-2.0

//go:build linux

package integration

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// container is a program as a pod runs it: its user, its capabilities, its
// environment.
type container struct {
	UID, GID  int
	Caps      []int // of the bounding set; a user other than 0 has none of them
	Args, Env []string
	Resolvers string // of its resolv.conf
}

// netAdmin are the capabilities of istio's init container.
var netAdmin = []int{unix.CAP_NET_ADMIN, unix.CAP_NET_RAW}

// initContainer is istio's init container, with the program as its image.
func initContainer(args ...string) container {
	return container{Caps: netAdmin, Args: append([]string{"/weir"}, args...)}
}

var buildRuntime = sync.OnceValues(func() ([]byte, error) { return build("./integration/container", "") })

// runtime installs what starts containers the first time, and returns its path.
func (p *realPod) runtime() string {
	p.Helper()
	if p.containers != "" {
		return p.containers
	}
	program, err := buildRuntime()
	if err != nil {
		p.Fatal(err)
	}
	p.containers = installAs(p, filepath.Join(filepath.Dir(p.program), "container"), program)
	return p.containers
}

// containerCommand is the container, not yet started, on the machine's own files or,
// with more flags, in an image.
func (p *realPod) containerCommand(c container, more ...string) *exec.Cmd {
	p.Helper()
	args := []string{"-uid", strconv.Itoa(c.UID), "-gid", strconv.Itoa(c.GID), "-resolvers", c.Resolvers}
	if len(c.Caps) > 0 {
		args = append(args, "-caps", strings.Trim(strings.ReplaceAll(fmt.Sprint(c.Caps), " ", ","), "[]"))
	}
	cmd := exec.Command(p.runtime(), append(append(append(args, more...), "--"), c.Args...)...)
	cmd.Env = append([]string{}, c.Env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd
}

// ran is how a container ended.
type ran struct {
	outcome
	message string // what the kubelet would show
	took    time.Duration
}

// contain runs the program of the test, alone in its image, to its end.
func (p *realPod) contain(c container) ran {
	p.Helper()
	dir := sharedDir(p)
	root, message := filepath.Join(dir, "root"), filepath.Join(dir, "message")
	if err := errors.Join(os.Mkdir(root, 0o755), os.WriteFile(message, nil, 0o666), os.Chmod(message, 0o666)); err != nil {
		p.Fatal(err)
	}
	cmd := p.containerCommand(c, "-image", p.program, "-root", root, "-message", message)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	start := time.Now()
	p.do(cmd.Start)
	limit := time.AfterFunc(runLimit, func() { _ = cmd.Process.Kill() })
	err := cmd.Wait()
	limit.Stop()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		p.Fatalf("%s: %v", strings.Join(c.Args, " "), err)
	}
	took := time.Since(start)
	told, err := os.ReadFile(message)
	if err != nil {
		p.Fatal(err)
	}
	return ran{ended(cmd, c.Args[1:], out.String(), errs.String()), string(told), took}
}
